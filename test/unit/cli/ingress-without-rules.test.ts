import { expect, test } from "bun:test";
import { rule, validate } from "../../../src/cli/tunnel-ingress.ts";
import { commandContext } from "../../support/command-context.ts";
import { memoryHost } from "../config/memory-host.ts";

test.each([
  { name: "validate", command: validate, text: "tunnel: x\n", says: "Validation failed: " },
  { name: "rule", command: rule, text: "ingress:\n", says: "culvert: " },
])("ingress $name fails when a file has no rules at all", async ({ command, text, says }) => {
  const err: string[] = [];
  const code = await command(
    commandContext({
      args: new Map([["config", ["/c.yml"]]]),
      positionals: ["a.example"],
      host: memoryHost({ "/c.yml": text }),
      note: (line) => err.push(line),
    }),
  );
  expect({ code, err }).toEqual({ code: 1, err: [`${says}There are no ingress rules in "/c.yml"`] });
});
