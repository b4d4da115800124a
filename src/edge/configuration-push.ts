import type { CancelTimer, Clock } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { TunnelId } from "../core/ids.ts";
import type { Logger } from "../core/log.ts";
import type { LiveConnection, Registry } from "./registry.ts";
import type { Actor, Store } from "./store/port.ts";

/** Waits after pushes that failed, in ms; the last one again and again. */
const RETRY_AFTER_MS = [500, 1_000, 2_000, 5_000, 15_000] as const;
/** Versions on the wire are 32 bits with a sign. What a connector claims to have must leave room for more. */
const MAX_CLAIMED_VERSION = 2 ** 30;

const ACTOR: Actor = { kind: "system", id: "configuration", from: "" };

/** What one connection was given. */
interface Pushed {
  busy: boolean;
  /** Something changed while it was busy. */
  stale: boolean;
  /** Acknowledged, in force or refused: it is not sent again. */
  settled: number;
  failures: number;
  cancelRetry: CancelTimer;
}

/**
 * Gives the connectors of remotely managed tunnels their rules, after each registration and at each change (protocol:
 * section 6). Each connection gets them, because only together do they reach a connector for certain; a connector takes
 * each version once.
 */
export class ConfigurationPush {
  readonly #deps: { readonly store: Store; readonly registry: Registry; readonly clock: Clock; readonly log: Logger };
  readonly #pushed = new WeakMap<LiveConnection, Pushed>();
  readonly #stop: readonly (() => void)[];
  #stopped = false;

  constructor(deps: { store: Store; registry: Registry; clock: Clock; log: Logger }) {
    this.#deps = deps;
    this.#stop = [
      deps.registry.watch({ onServed: (_, connection) => this.#later(connection, 0) }),
      deps.store.watch((change) => {
        if (change.kind === "configuration") this.#pushTo(deps.registry.connections(change.tunnelId));
        else if (change.kind === "unknown") this.#pushTo(deps.registry.all());
      }),
    ];
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#stop) stop();
  }

  #pushTo(connections: readonly LiveConnection[]): void {
    for (const connection of connections) void this.#push(connection);
  }

  /** The registration's answer goes first, which says that the tunnel is managed from here. */
  #later(connection: LiveConnection, ms: number): void {
    const pushed = this.#stateOf(connection);
    pushed.cancelRetry();
    pushed.cancelRetry = this.#deps.clock.after(ms, () => void this.#push(connection), { background: true });
  }

  /** Sends the newest version, and what is newer by then. Never rejects. */
  async #push(connection: LiveConnection): Promise<void> {
    const pushed = this.#stateOf(connection);
    pushed.stale = true;
    if (pushed.busy) return;
    pushed.busy = true;
    try {
      while (pushed.stale && this.#isWanted(connection)) {
        pushed.stale = false;
        await this.#pushOnce(connection, pushed);
      }
    } catch (error) {
      const wait = RETRY_AFTER_MS[Math.min(pushed.failures, RETRY_AFTER_MS.length - 1)] as number;
      pushed.failures += 1;
      if (this.#isWanted(connection)) {
        this.#deps.log.warn("Cannot give a connector its configuration; trying again", {
          ...names(connection),
          error: describe(error),
        });
        this.#later(connection, wait);
      }
    } finally {
      pushed.busy = false;
    }
  }

  async #pushOnce(connection: LiveConnection, pushed: Pushed): Promise<void> {
    const { store, log } = this.#deps;
    const current = store.configurations.current(connection.tunnelId);
    if (current === undefined || current.version <= pushed.settled) return;
    const { version, config } = current;
    const answer = await connection.session.pushConfiguration({ version, config });
    pushed.failures = 0;
    const applied = answer.latestAppliedVersion;
    if (answer.error !== "") {
      log.warn("A connector refused its configuration", { ...names(connection), version, error: answer.error });
    } else if (applied > version && applied <= MAX_CLAIMED_VERSION) {
      this.#outdo(connection, applied);
      pushed.stale = true;
      return;
    } else if (applied === version) {
      log.info("Connector took its configuration", { ...names(connection), version });
    } else {
      log.warn("A connector keeps another configuration than its edge has", {
        ...names(connection),
        version,
        applied,
      });
    }
    pushed.settled = version;
  }

  /**
   * A connector may have a version that this edge does not remember, as after a restore: ours must be above it to count.
   * Or ours has grown meanwhile, and the connector has got it by another connection.
   */
  #outdo(connection: LiveConnection, applied: number): void {
    const { store, log } = this.#deps;
    const current = store.configurations.current(connection.tunnelId);
    if (current === undefined || current.version >= applied) return;
    log.info("A connector has a newer configuration than this edge: making ours the newest", {
      ...names(connection),
      version: applied,
    });
    store.configurations.put(connection.tunnelId, current.config, ACTOR, applied);
  }

  #isWanted(connection: LiveConnection): boolean {
    return (
      !this.#stopped &&
      !connection.draining &&
      this.#deps.registry.connections(connection.tunnelId).includes(connection)
    );
  }

  #stateOf(connection: LiveConnection): Pushed {
    const known = this.#pushed.get(connection);
    if (known !== undefined) return known;
    const made: Pushed = { busy: false, stale: false, settled: -1, failures: 0, cancelRetry: () => {} };
    this.#pushed.set(connection, made);
    return made;
  }
}

function names(connection: LiveConnection): { tunnelID: TunnelId; connector: string; connIndex: number } {
  return { tunnelID: connection.tunnelId, connector: connection.connectorId, connIndex: connection.connIndex };
}
