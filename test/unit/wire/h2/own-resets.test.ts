import { expect, test } from "bun:test";
import { OwnResets } from "../../../../src/wire/h2/own-resets.ts";

test("a stream that was reset is told from one that was not", () => {
  const resets = new OwnResets();
  resets.add(5);
  expect([1, 3, 5, 7].map((id) => resets.mayHold(id))).toEqual([false, false, true, false]);
});

test("what is remembered is bounded, and what is forgotten is taken for one of them", () => {
  const resets = new OwnResets();
  resets.add(9);
  for (let id = 10_001; id < 20_001; id += 2) resets.add(id);
  expect([9, 7, 10_001, 19_999].map((id) => resets.mayHold(id))).toEqual([true, true, true, true]);
  expect([20_001, 18_000].map((id) => resets.mayHold(id))).toEqual([false, false]);
});
