import type { Socket } from "node:net";
import { ipGroup } from "../wire/ip-bytes.ts";

/** Bounds connections, in all and of one address. */
export class ConnectionLimit {
  readonly #total: number;
  readonly #perAddress: number;
  readonly #counts = new Map<string, number>();
  #open = 0;

  constructor(limits: { readonly total: number; readonly perAddress: number }) {
    this.#total = limits.total;
    this.#perAddress = limits.perAddress;
  }

  /** Counts a connection until it is closed. False = it is one too many, and was closed. */
  admit(socket: Socket): boolean {
    const address = ipGroup(socket.remoteAddress ?? "");
    const count = this.#counts.get(address) ?? 0;
    if (this.#open >= this.#total || count >= this.#perAddress) {
      socket.destroy();
      return false;
    }
    this.#open += 1;
    this.#counts.set(address, count + 1);
    socket.once("close", () => {
      this.#open -= 1;
      const left = (this.#counts.get(address) ?? 1) - 1;
      if (left === 0) this.#counts.delete(address);
      else this.#counts.set(address, left);
    });
    return true;
  }
}
