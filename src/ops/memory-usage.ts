/** What `process.memoryUsage()` says, in bytes; undefined where the system does not tell: on Linux without /proc. */
export function memoryUsage(): NodeJS.MemoryUsage | undefined {
  try {
    return process.memoryUsage();
  } catch {
    return undefined;
  }
}
