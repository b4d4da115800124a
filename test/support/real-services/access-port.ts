import { culvertCommand } from "../binary.ts";
import { cleanEnvironment } from "../lab.ts";
import { startProcess } from "../processes.ts";

/** `culvert access tcp`, `rdp` or `smb` in a process of its own, which forwards `port` to a hostname behind an edge. */
export async function startAccessPort(
  command: "tcp" | "rdp" | "smb",
  to: { readonly host: string; readonly publicPort: number },
): Promise<{ readonly port: number } & AsyncDisposable> {
  const where = ["--hostname", `http://${to.host}`, "--connect-to", `127.0.0.1:${to.publicPort}`];
  const child = startProcess([...culvertCommand(), "access", command, "--url", "127.0.0.1:0", ...where], {
    env: cleanEnvironment(),
  });
  try {
    const [, port] = await child.errorLine(/Forwarding 127\.0\.0\.1:(\d+)/);
    return { port: Number(port), [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}
