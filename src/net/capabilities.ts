/** linux/capability.h. */
const CAPABILITY_VERSION_3 = 0x20080522;
/** To read files and enter folders, and not to write. */
const CAP_DAC_READ_SEARCH = 1 << 2;
/** glibc and musl call it differently. */
const LIBC = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`] as const;

/**
 * Lets root's process that acts as another account (seteuid(2)) enter folders and read files that are closed to that one,
 * and not write any. For this thread, until the user changes again (capabilities(7)). Does nothing elsewhere than on Linux,
 * nor for a process that is not root's.
 */
export function readAnything(): void {
  const ffi = process.getBuiltinModule?.("bun:ffi") as typeof import("bun:ffi") | undefined;
  if (process.platform !== "linux" || ffi === undefined) return;
  for (const name of LIBC) {
    try {
      const { symbols, close } = ffi.dlopen(name, {
        capget: { args: ["ptr", "ptr"], returns: "i32" },
        capset: { args: ["ptr", "ptr"], returns: "i32" },
      });
      const header = Uint32Array.of(CAPABILITY_VERSION_3, 0);
      // Twice effective, permitted and inheritable.
      const sets = new Uint32Array(6);
      if (symbols.capget(header, sets) === 0) {
        sets[0] = CAP_DAC_READ_SEARCH;
        symbols.capset(header, sets);
      }
      close();
      return;
    } catch {
      // The other C library.
    }
  }
}
