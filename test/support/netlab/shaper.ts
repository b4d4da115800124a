import { join } from "node:path";
import { type OwnedProcess, startProcess } from "../processes.ts";
import type { Namespaces } from "./namespaces.ts";

/** What a bad line does to packets. */
export interface Shape {
  readonly roundTripMs: number;
  /** Packets lost, each way, in percent. */
  readonly lossPercent: number;
}

const TABLE = "100";
const RELAY = join(import.meta.dirname, "relay.ts");

/**
 * Delays and loses packets between `core` and its gates: with `tc netem` where the kernel has it, else by sending them
 * through a relay in `core` (a TUN device), because many small kernels are built without netem.
 */
export class Shaper implements AsyncDisposable {
  readonly kind: "tc netem" | "a relay on a TUN device";
  readonly #spaces: Namespaces;
  #relay: OwnedProcess | undefined;
  #undo: (() => void)[] = [];

  constructor(spaces: Namespaces) {
    this.#spaces = spaces;
    const has = spaces.tryRun("core", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0ms").ok;
    if (has) spaces.run("core", "tc", "qdisc", "del", "dev", "lo", "root");
    this.kind = has ? "tc netem" : "a relay on a TUN device";
  }

  async set(gates: readonly string[], shape: Shape | undefined): Promise<void> {
    for (const undo of this.#undo.splice(0).toReversed()) undo();
    await this.#relay?.[Symbol.asyncDispose]();
    this.#relay = undefined;
    if (shape === undefined) return;
    if (this.kind === "tc netem") this.#netem(gates, shape);
    else await this.#startRelay(gates, shape);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.set([], undefined);
  }

  #netem(gates: readonly string[], shape: Shape): void {
    const parameters = ["delay", `${shape.roundTripMs / 2}ms`, "loss", `${shape.lossPercent}%`, "limit", "10000"];
    for (const gate of gates) {
      for (const [host, device] of [["core", gate] as const, [gate, "outside"] as const]) {
        this.#spaces.run(host, "tc", "qdisc", "add", "dev", device, "root", "netem", ...parameters);
        this.#undo.push(() => this.#spaces.run(host, "tc", "qdisc", "del", "dev", device, "root"));
      }
    }
  }

  async #startRelay(gates: readonly string[], shape: Shape): Promise<void> {
    const argv = [process.execPath, RELAY, "shape", String(shape.roundTripMs / 2), String(shape.lossPercent)];
    this.#relay = startProcess(this.#spaces.inside("core", argv));
    await this.#relay.outputLine(/ready/);
    const core = (...args: readonly string[]): string => this.#spaces.run("core", "ip", ...args);
    core("link", "set", "shape", "up");
    core("route", "add", "default", "dev", "shape", "table", TABLE);
    const addRule = (...rule: readonly string[]): void => {
      core("rule", "add", ...rule, "lookup", TABLE);
      this.#undo.push(() => core("rule", "del", ...rule, "lookup", TABLE));
    };
    for (const gate of gates) {
      // Packets that come out of the relay have it as their way in: these rules leave them to the usual routes.
      addRule("iif", gate);
      for (const edge of ["edge1", "edge2"]) addRule("iif", edge, "to", `198.18.1${gate.slice(-1)}.0/24`);
    }
  }
}
