import { afterAll, beforeAll, describe } from "bun:test";
import { CONNECTORS, type ConnectorKind, type Lab, startLab } from "./lab.ts";

/**
 * Runs a suite for each connector, in a lab that its tests share. A connector that is not on this machine is skipped,
 * and the suite's name says what to set.
 */
export function describeConnectors(what: string, suite: (kind: ConnectorKind, lab: () => Lab) => void): void {
  for (const kind of CONNECTORS) {
    const name = `${what}, ${kind.name}`;
    if (kind.missing !== undefined) {
      describe.skip(`${name} (${kind.missing})`, () => suite(kind, noLab));
      continue;
    }
    describe(name, () => {
      let lab: Lab | undefined;
      beforeAll(async () => {
        lab = await startLab(kind);
      });
      afterAll(async () => {
        await lab?.[Symbol.asyncDispose]();
      });
      suite(kind, () => lab ?? noLab());
    });
  }
}

function noLab(): never {
  throw new Error("The lab did not start");
}
