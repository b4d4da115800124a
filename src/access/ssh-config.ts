/** What `ssh-config` prints a stanza for. */
export interface SshConfigOptions {
  readonly hostname: string | undefined;
  /** With certificates that `ssh-gen` fetches for each login. */
  readonly shortLivedCert: boolean;
  /** The user's home directory. */
  readonly homeDir: string;
  /** Path of this program. */
  readonly program: string;
}

/** The text of cloudflared's `access ssh-config`, with this program in it (surface: section 5). */
export function renderSshConfig(options: SshConfigOptions): string {
  const host = options.hostname ?? "[your hostname]";
  const plain = /^[\w./:@+=,-]+$/.test(options.program) ? options.program : `'${options.program}'`;
  // ssh reads % as the beginning of a token.
  const program = plain.replaceAll("%", "%%");
  const command = `  ProxyCommand ${program} access ssh --hostname %h`;
  const stanza = options.shortLivedCert
    ? [
        `Match host ${host} exec "${program} access ssh-gen --hostname %h"`,
        command,
        "  IdentityFile ~/.cloudflared/%h-cf_key",
        "  CertificateFile ~/.cloudflared/%h-cf_key-cert.pub",
      ]
    : [`Host ${host}`, command, ""];
  return ["", `Add to your ${options.homeDir}/.ssh/config:`, ...stanza].join("\n");
}
