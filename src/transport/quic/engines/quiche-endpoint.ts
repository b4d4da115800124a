import { setImmediate } from "node:timers";
import type { Clock } from "../../../core/clock.ts";
import { openUdp, type PacketList, type UdpSocket } from "../udp.ts";
import type { Endpoint, QuicheConnection } from "./quiche-connection.ts";

/** Packets one connection may send in one turn, before it reads acknowledgements again. */
const PACKETS_PER_TURN = 64;

/** A UDP socket with its connections: takes their turns, and keeps what the system does not take at once. */
export class QuicheEndpoint implements Endpoint {
  readonly clock: Clock;
  readonly #slots = new Map<number, readonly Uint8Array[]>();
  #udp: UdpSocket | undefined;
  #unsent: PacketList = [];
  #due: QuicheConnection[] = [];
  readonly #queued = new Set<QuicheConnection>();
  #scheduled = false;
  readonly #onRelease: (connection: QuicheConnection) => void;

  constructor(clock: Clock, onRelease: (connection: QuicheConnection) => void) {
    this.clock = clock;
    this.#onRelease = onRelease;
  }

  /** Binds the socket. Rejects with a TunnelError (`listen.failed`). */
  async open(host: string, port: number, onPacket: (bytes: Uint8Array, port: number, ip: string) => void) {
    this.#udp = await openUdp(host, port, { onPacket, onDrain: () => this.#drain() });
  }

  get localPort(): number {
    return this.#udp?.port ?? 0;
  }

  slots(packetBytes: number): readonly Uint8Array[] {
    const known = this.#slots.get(packetBytes);
    if (known !== undefined) return known;
    const room = new Uint8Array(PACKETS_PER_TURN * packetBytes);
    const slots = Array.from({ length: PACKETS_PER_TURN }, (_, i) =>
      room.subarray(i * packetBytes, (i + 1) * packetBytes),
    );
    this.#slots.set(packetBytes, slots);
    return slots;
  }

  get writable(): boolean {
    return this.#unsent.length === 0;
  }

  send(packets: PacketList): void {
    const sent = this.#udp?.sendMany(packets) ?? 0;
    if (sent * 3 >= packets.length || this.#udp === undefined) return;
    // The slots are written to again before these go out.
    this.#unsent = packets.slice(sent * 3).map((item) => (typeof item === "object" ? item.slice() : item));
  }

  schedule(connection: QuicheConnection): void {
    if (this.#queued.has(connection)) return;
    this.#queued.add(connection);
    this.#due.push(connection);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#turns());
  }

  release(connection: QuicheConnection): void {
    this.#onRelease(connection);
  }

  close(): void {
    this.#udp?.close();
    this.#udp = undefined;
    this.#unsent = [];
  }

  #turns(): void {
    this.#scheduled = false;
    const due = this.#due;
    this.#due = [];
    for (const connection of due) {
      this.#queued.delete(connection);
      connection.turn();
    }
  }

  #drain(): void {
    const packets = this.#unsent;
    this.#unsent = [];
    if (packets.length > 0) this.send(packets);
    if (!this.writable) return;
    for (const connection of this.#waiting()) this.schedule(connection);
  }

  /** Set by the owner: the connections to wake when the socket takes packets again. */
  #waiting: () => Iterable<QuicheConnection> = () => [];

  set connections(list: () => Iterable<QuicheConnection>) {
    this.#waiting = list;
  }
}
