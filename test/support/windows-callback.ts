// Run by a test with the runtime inside the Windows binary: what a thread that is not JavaScript's gets back from a
// callback that is carried out on another thread. Windows ends a service whose control handler answers with garbage.
import { openWindows } from "../../src/net/windows-api.ts";

const ROUNDS = 5;
const ARGUMENT = 7;

const { ffi, kernel } = await openWindows();
const code = new Uint32Array(1);
const answers: number[] = [];
const seen: number[] = [];
for (let round = 0; round < ROUNDS; round += 1) {
  const called = Promise.withResolvers<number>();
  const callback = new ffi.JSCallback((argument: number) => called.resolve(argument), {
    args: ["u32"],
    returns: "u32",
    threadsafe: true,
  });
  const thread = kernel.CreateThread(null, 0, callback.ptr, ARGUMENT as never, 0, null);
  seen.push(await called.promise);
  do {
    await new Promise((resolve) => setTimeout(resolve, 5));
    kernel.GetExitCodeThread(thread, code);
  } while (code[0] === 259);
  answers.push(code[0] ?? -1);
}
console.log(JSON.stringify({ seen, answers }));
