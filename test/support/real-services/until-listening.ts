import { connect } from "node:net";
import { pollUntil } from "../poll-until.ts";
import type { OwnedProcess } from "../processes.ts";

/** Longer than any of them takes on a busy machine. */
const DEADLINE_MS = 15_000;

/** Resolves once a server takes connections at this port of 127.0.0.1; throws at once when its process ended instead. */
export async function untilListening(server: OwnedProcess, port: number): Promise<void> {
  const what = `${server.name} listens`;
  const state = await pollUntil(async () => (server.end === undefined ? (await takes(port)) && "up" : "ended"), {
    what,
    deadlineMs: DEADLINE_MS,
    everyMs: 20,
  });
  if (state === "ended") throw new Error(`${what}: it ended\n${server.stdout}\n${server.stderr}`);
}

function takes(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    const done = (taken: boolean): void => {
      socket.destroy();
      resolve(taken);
    };
    socket.on("connect", () => done(true));
    socket.on("error", () => done(false));
  });
}
