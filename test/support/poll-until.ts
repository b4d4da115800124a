/**
 * Asks again and again until the condition gives something truthy, and returns that. For states that real sockets and
 * processes reach in their own time; a condition that throws counts as not yet. Fails with `what` at the deadline.
 */
export async function pollUntil<T>(
  condition: () => T | Promise<T>,
  options: { readonly what: string; readonly deadlineMs?: number; readonly everyMs?: number },
): Promise<NonNullable<T>> {
  const { what, deadlineMs = 5_000, everyMs = 5 } = options;
  const endMs = performance.now() + deadlineMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= endMs) throw new Error(`Not within ${deadlineMs} ms: ${what}`, { cause: last });
    await new Promise<void>((resolve) => setTimeout(resolve, everyMs));
  }
}
