import type { Clock } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { NotifySocket } from "../net/notify-socket.ts";

/**
 * A service that cannot reach its edge is up all the same after this time, in ms: it goes on trying, and whatever a
 * boot has to do next must not wait for that.
 */
const READY_AT_LATEST_MS = 10_000;

/** Tells an init system how the service is; all of it does nothing where nobody listens. */
export interface Notifier {
  /** The connector has so many registered connections. */
  connections(count: number): void;
  /** It serves. */
  ready(status: string): void;
  /** A new configuration is being read, until the function this gives is called. */
  reloading(): () => void;
  stopping(): void;
  close(): void;
}

export interface NotifierDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** CLOCK_MONOTONIC in µs, which systemd compares with its own. */
  readonly monotonicUs: () => bigint;
}

const SILENT: Notifier = {
  connections: () => {},
  ready: () => {},
  reloading: () => () => {},
  stopping: () => {},
  close: () => {},
};

/**
 * Speaks sd_notify(3): READY at the first connection or 10 s after the start, STATUS at each change, RELOADING, STOPPING,
 * and WATCHDOG twice in each interval that is asked for. `open` gives the socket of `$NOTIFY_SOCKET`.
 */
export async function createNotifier(
  env: Readonly<Record<string, string | undefined>>,
  deps: NotifierDeps,
  open: (path: string) => Promise<NotifySocket>,
): Promise<Notifier> {
  const path = env["NOTIFY_SOCKET"];
  if (path === undefined || path === "") return SILENT;
  try {
    return new SystemdNotifier(await open(path), watchdogMs(env), deps);
  } catch (error) {
    deps.log.warn("Cannot tell the service manager how this service is", { error: describe(error) });
    return SILENT;
  }
}

class SystemdNotifier implements Notifier {
  readonly #socket: NotifySocket;
  readonly #deps: NotifierDeps;
  readonly #cancelReady: () => void;
  #cancelWatchdog: () => void = () => {};
  #status = "Connecting";
  #state: "starting" | "ready" | "stopping" = "starting";
  #failed = false;

  constructor(socket: NotifySocket, watchdogMs: number | undefined, deps: NotifierDeps) {
    this.#socket = socket;
    this.#deps = deps;
    this.#send(`STATUS=${this.#status}`);
    this.#cancelReady = deps.clock.after(READY_AT_LATEST_MS, () => this.#becomeReady(), { background: true });
    if (watchdogMs !== undefined) this.#watch(watchdogMs / 2);
  }

  connections(count: number): void {
    this.#status = statusOf(count);
    if (count > 0 && this.#state === "starting") this.#becomeReady();
    else this.#tell();
  }

  ready(status: string): void {
    this.#status = status;
    if (this.#state === "starting") this.#becomeReady();
    else this.#tell();
  }

  reloading(): () => void {
    if (this.#state !== "ready") return () => {};
    this.#send(`RELOADING=1\nMONOTONIC_USEC=${this.#deps.monotonicUs()}`);
    return () => {
      if (this.#state === "ready") this.#send("READY=1");
    };
  }

  stopping(): void {
    this.#state = "stopping";
    this.#cancelReady();
    this.#status = "Stopping";
    this.#send("STOPPING=1\nSTATUS=Stopping");
  }

  close(): void {
    this.#cancelReady();
    this.#cancelWatchdog();
    this.#socket.close();
  }

  #becomeReady(): void {
    if (this.#state !== "starting") return;
    this.#state = "ready";
    this.#cancelReady();
    this.#send(`READY=1\nSTATUS=${this.#status}`);
  }

  #tell(): void {
    if (this.#state !== "stopping") this.#send(`STATUS=${this.#status}`);
  }

  #watch(everyMs: number): void {
    this.#send("WATCHDOG=1");
    this.#cancelWatchdog = this.#deps.clock.after(everyMs, () => this.#watch(everyMs), { background: true });
  }

  #send(text: string): void {
    if (this.#socket.send(text) || this.#failed) return;
    this.#failed = true;
    this.#deps.log.warn("The service manager does not take what this service tells it");
  }
}

/** The interval in which systemd wants a sign of life of this process, in ms. */
function watchdogMs(env: Readonly<Record<string, string | undefined>>): number | undefined {
  const us = Number(env["WATCHDOG_USEC"] ?? 0);
  const pid = env["WATCHDOG_PID"];
  const isUs = pid === undefined || pid === "" || pid === `${process.pid}`;
  return Number.isSafeInteger(us) && us > 0 && isUs ? us / 1000 : undefined;
}

function statusOf(connections: number): string {
  return connections === 0
    ? "Connecting"
    : `Connected: ${connections} ${connections === 1 ? "connection" : "connections"}`;
}

/** Registered connections, read back from a status that {@link Notifier.connections} gave; undefined for others. */
export function readStatus(status: string): number | undefined {
  if (status === "Connecting") return 0;
  const count = /^Connected: ([0-9]{1,3}) connections?$/.exec(status)?.[1];
  return count === undefined ? undefined : Number(count);
}
