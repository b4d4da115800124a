import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { startProcess } from "../processes.ts";
import { makeTempDir } from "../temp-dir.ts";
import type { IssuedFiles } from "./authority.ts";
import { commandPath, freePort, missingCommands } from "./commands.ts";
import { untilListening } from "./until-listening.ts";

/** Behind the login window: RRGGBB. */
export const XRDP_BACKGROUND = "1a6e3c";

export const XRDP_MISSING = missingCommands("xrdp", "xfreerdp", "Xvfb");

/** A remote desktop server over TLS. Its login window needs no session manager, which would be a service of the machine. */
export async function startXrdp(tls: IssuedFiles): Promise<{ readonly port: number } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const at = (name: string): string => join(dir.path, name);
  const port = await freePort();
  writeFileSync(
    at("xrdp.ini"),
    [
      // A thread for each client: processes of their own would outlive the server.
      ...["[Globals]", "ini_version=1", "fork=false", `port=tcp://127.0.0.1:${port}`],
      ...["security_layer=tls", "crypt_level=high", `certificate=${tls.cert}`, `key_file=${tls.key}`],
      ...["ssl_protocols=TLSv1.2, TLSv1.3", "allow_channels=true", "autorun="],
      ...["black=000000", "grey=dedede", "dark_grey=808080", "blue=009cb5", "dark_blue=08246b", "white=ffffff"],
      ...["red=ff0000", "green=00ff00", "background=626c72", `ls_top_window_bg_color=${XRDP_BACKGROUND}`],
      ...["ls_width=350", "ls_height=430"],
      ...["[Logging]", `LogFile=${at("log")}`, "LogLevel=INFO", "EnableSyslog=false"],
      // A client that is offered fewer channels than it asks for ends the session.
      ...["[Channels]", "rdpdr=true", "rdpsnd=true", "drdynvc=true", "cliprdr=true"],
      ...["[Xvnc]", "name=Xvnc", "lib=libvnc.so", "username=ask", "password=ask", "ip=127.0.0.1", "port=-1", ""],
    ].join("\n"),
  );
  const server = stack.use(startProcess([commandPath("xrdp"), "-n", "-c", at("xrdp.ini")]));
  await untilListening(server, port);
  const all = stack.move();
  return { port, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
