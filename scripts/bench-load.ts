/**
 * A visitor that does nothing but ask: raw HTTP/1.1 on kept connections, one request at a time on each. Reads one
 * command a line from standard input and answers each with one line of JSON.
 *   requests PORT HOST CONNECTIONS SECONDS [HOSTS [KIND]]  -> { requests, failures, seconds, p50Ms, p99Ms }
 *     a `*` in HOST stands for a number below HOSTS, another one each time; KIND: smallest (default) or page
 *   down PORT HOST BYTES                    -> { bytes, seconds }
 *   up PORT HOST BYTES                      -> { bytes, seconds }
 */
import { createInterface } from "node:readline";

const BLOCK = Buffer.alloc(256 * 1024, "a");
const BODY = "hello world";
/** What a browser sends for a part of a page. */
const BROWSER = [
  [
    "User-Agent",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
  ],
  ["Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"],
  ["Accept-Language", "en-GB,en;q=0.9,de;q=0.8"],
  ["Accept-Encoding", "gzip, deflate, br, zstd"],
  ["Referer", "https://bench.example.test/articles/2026"],
  ["Cookie", `session=${"a1b2".repeat(16)}; theme=dark; consent=necessary`],
  ["Sec-Fetch-Dest", "document"],
  ["Sec-Fetch-Mode", "navigate"],
  ["Sec-Fetch-Site", "same-origin"],
  ["Upgrade-Insecure-Requests", "1"],
  ["Cache-Control", "max-age=0"],
];
const KINDS: Readonly<Record<string, { readonly target: string; readonly fields: readonly (readonly string[])[] }>> = {
  smallest: {
    target: "/",
    fields: [
      ["User-Agent", "bench"],
      ["Accept", "*/*"],
    ],
  },
  page: { target: "/page/articles/2026/11?from=newsletter", fields: BROWSER },
};

async function measureRequests(
  port: number,
  host: string,
  connections: number,
  seconds: number,
  hosts: number,
  kind: string,
) {
  const { target, fields } = KINDS[kind] ?? fail(`No such kind: ${kind}`);
  const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const requestTo = (name: string): Buffer => Buffer.from(`GET ${target} HTTP/1.1\r\nHost: ${name}\r\n${lines}\r\n`);
  const requests = Array.from({ length: hosts }, (_, i) => requestTo(host.replace("*", String(i))));
  const next = (): Buffer => requests[Math.floor(Math.random() * requests.length)] as Buffer;
  const latencies: number[] = [];
  let failures = 0;
  let running = true;
  const begin = performance.now();
  await Promise.all(
    Array.from(
      { length: connections },
      () =>
        new Promise<void>((resolve) => {
          let sentAt = performance.now();
          let partial = "";
          void Bun.connect({
            hostname: "127.0.0.1",
            port,
            socket: {
              open(socket) {
                socket.setNoDelay(true);
                socket.write(next());
              },
              data(socket, chunk) {
                partial += chunk.toString("latin1");
                if (!partial.endsWith(BODY)) {
                  if (!partial.startsWith("HTTP/1.1 200")) failures += 1;
                  else return;
                }
                partial = "";
                const now = performance.now();
                latencies.push(now - sentAt);
                sentAt = now;
                if (running) socket.write(next());
                else socket.end();
              },
              close: () => resolve(),
              error: () => {
                failures += 1;
              },
            },
          });
          setTimeout(() => {
            running = false;
          }, seconds * 1000);
        }),
    ),
  );
  const elapsed = (performance.now() - begin) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
  return { requests: latencies.length, failures, seconds: elapsed, p50Ms: at(0.5), p99Ms: at(0.99) };
}

function measureBulk(
  port: number,
  host: string,
  bytes: number,
  upload: boolean,
): Promise<{ bytes: number; seconds: number }> {
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    let left = upload ? bytes : 0;
    let received = -1;
    const pump = (socket: { write(data: Uint8Array): number }): void => {
      while (left > 0) {
        const block = left < BLOCK.length ? BLOCK.subarray(0, left) : BLOCK;
        const sent = Math.max(0, socket.write(block));
        left -= sent;
        if (sent < block.length) return;
      }
    };
    void Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        open(socket) {
          const line = upload ? `POST /up HTTP/1.1\r\nContent-Length: ${bytes}\r\n` : `GET /bulk/${bytes} HTTP/1.1\r\n`;
          socket.write(`${line}Host: ${host}\r\n\r\n`);
          pump(socket);
        },
        data(socket, chunk) {
          if (received < 0) {
            const status = chunk.toString("latin1", 0, 12);
            if (status !== "HTTP/1.1 200") reject(new Error(`answered ${status}`));
            received = chunk.length - chunk.indexOf("\r\n\r\n") - 4;
          } else received += chunk.length;
          if (received < (upload ? 2 : bytes)) return;
          resolve({ bytes, seconds: (performance.now() - begin) / 1000 });
          socket.end();
        },
        drain: pump,
        close: () => reject(new Error("the connection ended early")),
        error: (_socket, error) => reject(error),
      },
    });
  });
}

function fail(message: string): never {
  throw new Error(message);
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, port, host, amount, seconds, hosts, kind] = line.split(" ");
  const work =
    command === "requests"
      ? measureRequests(
          Number(port),
          host ?? "",
          Number(amount),
          Number(seconds),
          Number(hosts ?? 1),
          kind ?? "smallest",
        )
      : measureBulk(Number(port), host ?? "", Number(amount), command === "up");
  const result = await work.catch((error: unknown) => ({ error: String(error) }));
  console.log(JSON.stringify(result));
}
