import { startProcess } from "../processes.ts";
import { makeTempDir } from "../temp-dir.ts";
import { commandPath, freePort, missingCommands } from "./commands.ts";

export const REDIS_MISSING = missingCommands("redis-server", "redis-benchmark", "redis-cli");

/** An empty store that keeps nothing on disk. */
export async function startRedis(): Promise<{ readonly port: number } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const port = await freePort();
  const flags = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir.path];
  const server = stack.use(startProcess([commandPath("redis-server"), ...flags]));
  await server.outputLine(/Ready to accept connections/);
  const all = stack.move();
  return { port, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
