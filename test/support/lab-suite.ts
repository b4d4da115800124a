import { afterAll, beforeAll, describe } from "bun:test";
import { join } from "node:path";
import {
  addTunnel,
  CONNECTORS,
  type ConnectorKind,
  type EdgeProcess,
  HOST,
  type Lab,
  startEdgeProcess,
  startLab,
} from "./lab.ts";
import { makeTempDir } from "./temp-dir.ts";

/** An edge with a tunnel for `HOST`, and no connector. */
export interface BareLab {
  /** A folder for the tests; the edge's state is below it. */
  readonly dir: string;
  readonly stateDir: string;
  readonly edge: EdgeProcess;
  readonly token: string;
}

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

/** A lab without connectors, which the tests of this file or suite share. */
export function shareBareLab(): () => BareLab {
  const stack = new AsyncDisposableStack();
  let lab: BareLab | undefined;
  beforeAll(async () => {
    const dir = stack.use(makeTempDir()).path;
    const stateDir = join(dir, "state");
    const edge = await startEdgeProcess(stateDir);
    stack.use(edge.process);
    lab = { dir, stateDir, edge, token: await addTunnel(stateDir, "lab", [HOST]) };
  });
  afterAll(() => stack.disposeAsync());
  return () => lab ?? noLab();
}

function noLab(): never {
  throw new Error("The lab did not start");
}
