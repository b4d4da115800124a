import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

export interface ReleaseServer extends AsyncDisposable {
  readonly url: string;
  /** `PATH` or `PATH bytes=N-` of each request. */
  readonly requests: string[];
}

export interface ReleaseServerOptions {
  /** Answers a whole file also when a part was asked for. */
  readonly ignoreRanges?: boolean;
  /** Cuts the connection after so many bytes of a large file. */
  readonly cutAfterBytes?: number;
  /** Bytes of a large file that come before the rest waits for `go`. */
  readonly holdAfterBytes?: number;
  readonly go?: Promise<void>;
}

const LARGE_BYTES = 1_000_000;

/** A static file server of one folder on a free port of loopback, with the faults that a download meets. */
export async function startReleaseServer(folder: string, options: ReleaseServerOptions = {}): Promise<ReleaseServer> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    // Where an installer asks, and where `culvert update` was told to.
    const name = decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname.slice(1)).replace(/^dl\//, "");
    const path = join(folder, name);
    requests.push([name, request.headers.range].filter((part) => part !== undefined).join(" "));
    if (name.includes("/") || !existsSync(path)) return response.writeHead(404).end();
    const total = statSync(path).size;
    const asked = options.ignoreRanges === true ? undefined : /^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1];
    const start = Number(asked ?? 0);
    if (start >= total) return response.writeHead(416).end();
    const headers = { "content-length": total - start, "content-range": `bytes ${start}-${total - 1}/${total}` };
    if (asked === undefined) response.writeHead(200, { "content-length": total });
    else response.writeHead(206, headers);
    return total < LARGE_BYTES
      ? createReadStream(path, { start }).pipe(response)
      : void sendLarge(path, start, response, options);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function sendLarge(
  path: string,
  start: number,
  response: ServerResponse,
  { cutAfterBytes, holdAfterBytes, go }: ReleaseServerOptions,
): Promise<void> {
  let sent = 0;
  let held = holdAfterBytes === undefined;
  for await (const chunk of createReadStream(path, { start })) {
    if (response.destroyed) return;
    if (!response.write(chunk)) {
      await new Promise<void>((resolve) => {
        const go = (): void => {
          response.off("drain", go).off("close", go);
          resolve();
        };
        response.on("drain", go).on("close", go);
      });
    }
    sent += (chunk as Buffer).length;
    if (cutAfterBytes !== undefined && sent >= cutAfterBytes) {
      response.destroy();
      return;
    }
    if (!held && sent >= (holdAfterBytes ?? 0)) {
      held = true;
      await go;
    }
  }
  response.end();
}
