import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type OwnedProcess, startProcess } from "../processes.ts";
import { makeTempDir } from "../temp-dir.ts";
import { commandPath, missingCommands } from "./commands.ts";

export const NGINX_MISSING = missingCommands("nginx");

/** nginx in the foreground with `servers` in its http block, and every file of its own in one folder. */
export async function startNginx(servers: string): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  // As root it gives its workers another user.
  chmodSync(dir.path, 0o711);
  const at = (name: string): string => join(dir.path, name);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (kind) => `${kind}_temp_path ${at(kind)};`,
  );
  writeFileSync(
    at("nginx.conf"),
    [
      ...["daemon off;", "worker_processes 2;", `pid ${at("pid")};`, "error_log stderr notice;"],
      ...["events { worker_connections 512; }", "http {", "access_log off;", ...temporary, servers, "}", ""],
    ].join("\n"),
  );
  const server: OwnedProcess = stack.use(
    startProcess([commandPath("nginx"), "-p", dir.path, "-e", "stderr", "-c", at("nginx.conf")]),
  );
  // It listens before it starts its workers.
  await server.errorLine(/start worker process \d+/);
  const all = stack.move();
  return { [Symbol.asyncDispose]: () => all.disposeAsync() };
}
