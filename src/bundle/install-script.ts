import template from "../../install.sh" with { type: "text" };
import { TunnelError } from "../core/errors.ts";
import { encodeMinisignPublicKey, type MinisignPublicKey } from "../wire/minisign.ts";

export interface InstallScriptOptions {
  /** Where releases are taken from, without `/dl/`; undefined = its user says so. */
  readonly baseUrl: string | undefined;
  /** Releases are taken when one of these has signed them. */
  readonly keys: readonly MinisignPublicKey[];
}

/** `install.sh` with defaults filled in. Throws a TunnelError for an address that a shell could read as something else. */
export function renderInstallScript({ baseUrl = "", keys }: InstallScriptOptions): string {
  if (!/^(https?:\/\/[A-Za-z0-9.:[\]_~/-]+)?$/.test(baseUrl)) {
    throw new TunnelError("config.invalid", `"${baseUrl}" is not an address that an installer can be given`);
  }
  const named = keys.map(encodeMinisignPublicKey).join(" ");
  return fill(fill(template, "DEFAULT_BASE_URL", baseUrl), "DEFAULT_KEYS", named);
}

function fill(text: string, variable: string, value: string): string {
  const line = `\n${variable}=''\n`;
  if (!text.includes(line)) throw new TunnelError("update.failed", `install.sh has no line ${variable}=''`);
  return text.replace(line, () => `\n${variable}='${value}'\n`);
}
