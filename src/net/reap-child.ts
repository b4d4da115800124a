const WNOHANG = 1;
const NAMES = {
  linux: ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`],
  darwin: ["libSystem.B.dylib"],
} as const;

/**
 * Takes note of the end of a child that the runtime does not know, because the process had it before it became this
 * program (waitpid(2)): else a zombie stays. True when it has ended, or is no child.
 */
export async function reapChild(pid: number): Promise<boolean> {
  const ffi = await import("bun:ffi").catch(() => undefined);
  const names: readonly string[] = NAMES[process.platform as keyof typeof NAMES] ?? [];
  for (const name of ffi === undefined ? [] : names) {
    try {
      const libc = ffi?.dlopen(name, { waitpid: { args: ["i32", "ptr", "i32"], returns: "i32" } });
      const found = libc?.symbols.waitpid(pid, null, WNOHANG);
      libc?.close();
      return found !== 0;
    } catch {
      // The other C library.
    }
  }
  return true;
}
