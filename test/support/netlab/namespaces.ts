import { type ChildProcess, spawn } from "node:child_process";
import { command, tryCommand } from "./commands.ts";

/** Ends the processes of the namespaces whose names begin like this, and removes them, once its input ends. */
const CLEAN_UP = `
cat >/dev/null
for name in /run/netns/$1*; do
  [ -e "$name" ] || continue
  name=\${name##*/}
  for pid in $(ip netns pids "$name"); do kill -9 "$pid"; done
  ip netns del "$name"
done`;

let nextLab = 1;

/** Network namespaces of this process, named after its id. They are gone when it is, however it ended. */
export class Namespaces implements Disposable {
  readonly #prefix = `culvert-${process.pid}-${nextLab++}-`;
  readonly #made = new Map<string, string>();
  readonly #guard: ChildProcess;

  constructor() {
    // A pipe of which only we have the other end: it closes even when we are killed.
    const stdio = ["pipe", "ignore", "ignore"] as const;
    this.#guard = spawn("sh", ["-c", CLEAN_UP, "sh", this.#prefix], { detached: true, stdio: [...stdio] });
    this.#guard.unref();
  }

  add(short: string): void {
    const name = `${this.#prefix}${short}`;
    command("ip", "netns", "add", name);
    this.#made.set(short, name);
    this.run(short, "ip", "link", "set", "lo", "up");
  }

  /** The command line that runs a program inside. */
  inside(short: string, argv: readonly string[]): readonly string[] {
    return ["ip", "netns", "exec", this.#name(short), ...argv];
  }

  /** What stands for it in the file system. */
  path(short: string): string {
    return `/run/netns/${this.#name(short)}`;
  }

  run(short: string, ...argv: readonly string[]): string {
    return command(...this.inside(short, argv));
  }

  tryRun(short: string, ...argv: readonly string[]): { readonly ok: boolean; readonly text: string } {
    return tryCommand(...this.inside(short, argv));
  }

  /** A cable between two namespaces, with an address of a /24 at each end. */
  cable(a: NetEnd, b: NetEnd): void {
    const [first, second] = [this.#name(a.in), this.#name(b.in)];
    const peer = ["type", "veth", "peer", "name", b.device, "netns", second];
    command("ip", "link", "add", a.device, "netns", first, ...peer);
    for (const end of [a, b]) {
      this.run(end.in, "ip", "address", "add", `${end.address}/24`, "dev", end.device);
      this.run(end.in, "ip", "link", "set", end.device, "up");
    }
  }

  [Symbol.dispose](): void {
    for (const name of this.#made.values()) remove(name);
    this.#made.clear();
    this.#guard.stdin?.end();
  }

  #name(short: string): string {
    const name = this.#made.get(short);
    if (name === undefined) throw new Error(`There is no namespace ${short}`);
    return name;
  }
}

export interface NetEnd {
  readonly in: string;
  readonly device: string;
  readonly address: string;
}

/** A namespace lives as long as a process in it does, so those go first. */
function remove(name: string): void {
  const pids = tryCommand("ip", "netns", "pids", name);
  for (const pid of pids.ok ? pids.text.split("\n").filter((line) => line !== "") : []) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It ended in the meantime.
    }
  }
  tryCommand("ip", "netns", "del", name);
}
