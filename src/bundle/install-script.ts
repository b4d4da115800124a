import powerShellTemplate from "../../install.ps1" with { type: "text" };
import shellTemplate from "../../install.sh" with { type: "text" };
import { TunnelError } from "../core/errors.ts";
import { encodeMinisignPublicKey, type MinisignPublicKey } from "../wire/minisign.ts";

export interface InstallScriptOptions {
  /** Where releases are taken from, without `/dl/`; undefined = its user says so. */
  readonly baseUrl: string | undefined;
  /** Releases are taken when one of these has signed them. */
  readonly keys: readonly MinisignPublicKey[];
}

/** `install.sh` with defaults filled in. Throws a TunnelError for an address that a shell could read as something else. */
export function renderInstallScript(options: InstallScriptOptions): string {
  const { baseUrl, keys } = defaultsOf(options);
  const script = fill(fill(shellTemplate, "\nDEFAULT_BASE_URL=", baseUrl), "\nDEFAULT_KEYS=", keys);
  // What is downloaded must not build what lies in the folder of downloads.
  return fill(script, "\nFROM_CHECKOUT=", "", "yes");
}

/** `install.ps1` with defaults filled in. Throws as {@link renderInstallScript}. */
export function renderPowerShellInstaller(options: InstallScriptOptions): string {
  const { baseUrl, keys } = defaultsOf(options);
  return fill(fill(powerShellTemplate, "\n  $DefaultBaseUrl = ", baseUrl), "\n  $DefaultKeys = ", keys);
}

function defaultsOf({ baseUrl = "", keys }: InstallScriptOptions): { readonly baseUrl: string; readonly keys: string } {
  if (!/^(https?:\/\/[A-Za-z0-9.:[\]_~/-]+)?$/.test(baseUrl)) {
    throw new TunnelError("config.invalid", `"${baseUrl}" is not an address that an installer can be given`);
  }
  return { baseUrl, keys: keys.map(encodeMinisignPublicKey).join(" ") };
}

/** Puts `value` between the quotes that end the line which begins so, in place of `before`. */
function fill(text: string, begin: string, value: string, before = ""): string {
  const line = `${begin}'${before}'\n`;
  if (!text.includes(line)) throw new TunnelError("update.failed", `An installer has no line ${line.trim()}`);
  return text.replace(line, () => `${begin}'${value}'\n`);
}
