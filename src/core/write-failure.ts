import { describe, systemCode } from "./errors.ts";

/**
 * Why a file cannot be written, in words for people. The system's own message names the call that failed, and the
 * temporary file that the content grew in, and neither is what was asked for: whoever calls this names the file.
 */
export function whyNotWritten(error: unknown): string {
  switch (systemCode(error)) {
    case "ENOENT":
      return "there is no such folder";
    case "ENOTDIR":
      return "part of its path is not a folder";
    case "EACCES":
    case "EPERM":
      return "permission denied";
    case "EROFS":
      return "the file system is read-only";
    case "ENOSPC":
    case "EDQUOT":
      return "there is no space left";
    default:
      return describe(error);
  }
}
