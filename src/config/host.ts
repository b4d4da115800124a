/** What configuration is read from; tests give their own. */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homeDir: string;
  readonly platform: string;
  /** The file's text; throws as `node:fs` does. */
  readFile(path: string): string;
  exists(path: string): boolean;
}

/** A path with `~` in front as the home directory, which shells do not replace behind `=` nor files at all. */
export function expandHome(host: Host, path: string): string {
  return path.replace(/^~(?=\/)/, host.homeDir);
}
