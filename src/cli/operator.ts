import { userInfo } from "node:os";
import type { Actor } from "../edge/store/port.ts";

/** Whoever runs this command, for the edge's audit log. */
export function operator(): Actor {
  return { kind: "operator", id: userName(), from: "" };
}

function userName(): string {
  try {
    const { username, uid } = userInfo();
    // What Bun says where nothing in the environment names the user.
    return username === "unknown" ? `uid ${uid}` : username;
  } catch {
    // A user that the system has only as a number, as in containers.
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}
