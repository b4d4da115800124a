import { appendFileSync } from "node:fs";
import { installedBinary } from "../../src/update/installed.ts";
import { lockUpdates } from "../../src/update/lock.ts";

// argv: the path of a binary, and how often to take the lock of its updates; "hold": once, and for good. Each time it
// comes in and goes out it says so, with its process id, in the file `PATH.log`.
const [, , path = "", how = ""] = process.argv;
const say = (text: string): void => appendFileSync(`${path}.log`, `${text} ${process.pid}\n`);

for (let times = 0; times < (how === "hold" ? 1 : Number(how)); ) {
  const unlock = await lockUpdates(installedBinary(path)).catch(() => undefined);
  if (unlock === undefined) continue;
  say("in");
  if (how === "hold") {
    // Nothing here leads to the lock any more, and yet it must stay.
    Bun.gc(true);
    say("collected");
    setInterval(() => {}, 60_000);
  } else {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
    say("out");
    await unlock();
  }
  times++;
}
