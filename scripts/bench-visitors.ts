/**
 * Visitors that ask once and then keep their connection. Reads one command a line from standard input and answers each
 * with one line of JSON.
 *   open PORT HOST COUNT -> { open, failure? }
 */
import { createInterface } from "node:readline";

/** Dialled at once. */
const AT_ONCE = 200;
/** More than one loopback address, since the kernel has 28 000 ports for each. */
const PER_ADDRESS = 20_000;

function openOne(port: number, host: string, index: number): Promise<void> {
  return new Promise((resolve, reject) => {
    void Bun.connect({
      hostname: `127.0.0.${1 + Math.floor(index / PER_ADDRESS)}`,
      port,
      socket: {
        open: (socket) => void socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`),
        data: (_socket, chunk) => {
          const status = chunk.toString("latin1", 0, 12);
          if (status === "HTTP/1.1 200") resolve();
          else reject(new Error(`answered ${status}`));
        },
        close: () => reject(new Error("closed")),
        connectError: (_socket, error) => reject(error),
        error: (_socket, error) => reject(error),
      },
    });
  });
}

async function openAll(port: number, host: string, count: number): Promise<{ open: number; failure?: string }> {
  let next = 0;
  let open = 0;
  let failure: string | undefined;
  const worker = async (): Promise<void> => {
    while (next < count && failure === undefined) {
      const index = next++;
      await openOne(port, host, index).then(
        () => {
          open += 1;
        },
        (error: unknown) => {
          failure = String(error);
        },
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { open, ...(failure === undefined ? {} : { failure }) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const [, port, host, count] = line.split(" ");
  console.log(JSON.stringify(await openAll(Number(port), host ?? "", Number(count))));
}
