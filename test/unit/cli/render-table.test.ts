import { expect, test } from "bun:test";
import { renderTable } from "../../../src/cli/management.ts";

test("columns are as wide as what is shown, which does not steer the terminal", () => {
  expect(
    renderTable([
      ["NAME", "ID"],
      ["x\u001b[31m", "1"],
    ]),
  ).toEqual(["NAME        ID ", String.raw`x\u001b[31m 1  `]);
});
