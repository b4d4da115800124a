import { join } from "node:path";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { storeSuite } from "./store-suite.ts";

const KEY = new Uint8Array(32).fill(7);

storeSuite("SQLite in a file", () => {
  const dir = makeTempDir();
  const clock = new VirtualClock();
  const store = openSqliteStore(join(dir.path, "culvert.db"), KEY, clock);
  return {
    store,
    clock,
    [Symbol.dispose]() {
      store.close();
      dir[Symbol.dispose]();
    },
  };
});

storeSuite("SQLite in memory", () => {
  const clock = new VirtualClock();
  const store = openSqliteStore(":memory:", KEY, clock);
  return { store, clock, [Symbol.dispose]: () => store.close() };
});
