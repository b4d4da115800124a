import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const LOADER = "/lib/ld-musl-x86_64.so.1";
const GLIBC_LIBRARIES = "/usr/lib/x86_64-linux-gnu";
/** The name that glibc's libraries ask for their loader by. */
const SHIM = "ld-linux-x86-64.so.2";

/**
 * Debian has musl and no libstdc++ for it, which Bun's musl runtime needs. Its own libstdc++ will do once somebody has
 * the eight symbols that only glibc has. Made for starting a binary in a test, and for nothing else.
 */
const SOURCE = `
typedef unsigned long size_t; typedef void *locale_t; struct tm;
extern long syscall(long, ...);
extern size_t strftime_l(char *, size_t, const char *, const struct tm *, locale_t);
char __libc_single_threaded = 0;
unsigned arc4random(void) { unsigned v = 0; syscall(318, &v, sizeof v, 0); return v; }
size_t __strftime_l(char *s, size_t n, const char *f, const struct tm *t, locale_t l) { return strftime_l(s, n, f, t, l); }
int __cxa_thread_atexit_impl(void (*f)(void *), void *p, void *d) { return 0; }
int _dl_find_object(void *pc, void *out) { return -1; }
struct { unsigned a, b, c, d[1]; } __cpu_model;
int __cpu_indicator_init(void) { return 0; }
`;

/** Whether a binary for musl can be started here. */
export function hasMusl(): boolean {
  return (
    existsSync(LOADER) && existsSync(join(GLIBC_LIBRARIES, "libstdc++.so.6")) && spawnSync("gcc", ["-v"]).status === 0
  );
}

/** Fills a folder with what a binary for musl wants; gives the environment to start it with. */
export function makeMuslLibraries(folder: string): Readonly<Record<string, string>> {
  for (const name of ["libstdc++.so.6", "libgcc_s.so.1"]) copyFileSync(join(GLIBC_LIBRARIES, name), join(folder, name));
  writeFileSync(join(folder, "shim.c"), SOURCE);
  const args = ["-shared", "-fPIC", "-nostdlib", "-w", "-o", join(folder, SHIM), join(folder, "shim.c")];
  const { status, stderr } = spawnSync("gcc", [...args, `-Wl,-soname,${SHIM}`], { encoding: "utf8" });
  if (status !== 0) throw new Error(`gcc: ${stderr}`);
  return { LD_LIBRARY_PATH: folder };
}

/** Fills a folder with a root of a system that has musl and nothing else. */
export function makeMuslRoot(folder: string): void {
  for (const name of ["lib", "tmp", "dev"]) mkdirSync(join(folder, name));
  chmodSync(join(folder, "tmp"), 0o1777);
  chmodSync(folder, 0o755);
  makeMuslLibraries(join(folder, "lib"));
  copyFileSync(LOADER, join(folder, LOADER));
  // Where a runtime gets chance and nothing from.
  writeFileSync(join(folder, "dev", "null"), "", { mode: 0o666 });
}
