import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type CreatedTunnel, createTunnel, deleteTunnel, tunnelToken } from "../api-client/tunnels.ts";
import { expandHome } from "../config/host.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { parseTunnelId } from "../core/ids.ts";
import { discard } from "../core/whole-file.ts";
import { whyNotWritten } from "../core/write-failure.ts";
import { decodeBytes } from "../wire/base64.ts";
import { type Credentials, formatCredentials } from "../wire/credentials.ts";
import { parseToken } from "../wire/token.ts";
import type { Context } from "./command.ts";
import { findTunnel, formatOf, invalid, type Management, positionals, printValue, withApi } from "./management.ts";
import { CREATE_FLAGS, TOKEN_FLAGS } from "./management-flags.ts";

const SECRET_BYTES = 32;
/** Who has the file can run the tunnel, and nobody needs to change it. */
const CREDENTIALS_MODE = 0o400;
const CANNOT_WRITE = "Cannot write the tunnel's credentials";

/** `culvert tunnel create NAME`: makes a tunnel and writes its credentials. */
export function create(context: Context): Promise<number> {
  return withApi(context, "tunnel create", CREATE_FLAGS, async (management) => {
    const [name] = positionals(context, ["NAME"]);
    const { values, api } = management;
    const format = formatOf(values);
    if (name === "") throw invalid("Give the tunnel a name that is not empty");
    if (parseTunnelId(name) !== undefined) {
      throw invalid(`"${name}" looks like a tunnel's id, which no tunnel may have for a name`);
    }
    const secret = readSecret(values.string("secret"));
    const tunnel = await createTunnel(api, name, secret);
    const path = await keepCredentials(management, tunnel, secret);
    if (format !== "table") {
      const { token = "", ...shown } = tunnel;
      printValue(context, format, format === "json" ? { ...shown, token } : { tunnel: shown, token });
      return;
    }
    const chosen =
      values.string("credentials-file") === undefined
        ? " culvert chose this file based on where your origin certificate was found."
        : "";
    context.print(
      `Tunnel credentials written to ${path}.${chosen} Keep this file secret. To revoke these credentials, delete the tunnel.`,
    );
    context.print(`\nCreated tunnel ${tunnel.name} with id ${tunnel.id}`);
  });
}

/** `culvert tunnel token TUNNEL`: prints what `tunnel run --token` takes, or writes it as a credentials file. */
export function token(context: Context): Promise<number> {
  return withApi(context, "tunnel token", TOKEN_FLAGS, async ({ api, values }) => {
    const [named] = positionals(context, ["TUNNEL"]);
    const text = await tunnelToken(api, await findTunnel(api, named));
    const path = values.string("credentials-file");
    if (path === undefined) {
      context.print(text);
      return;
    }
    const parsed = parseToken(text);
    if (!parsed.ok) throw new TunnelError("api.failed", "The API gave a token that cannot be read");
    const file = resolve(expandHome(context.host, path));
    try {
      writeCredentials(file, parsed.value);
    } catch (error) {
      throw new TunnelError("config.invalid", `${CANNOT_WRITE}: ${describe(error)}`, { cause: error });
    }
    context.note(`Tunnel credentials written to ${file}`);
  });
}

function readSecret(base64: string | undefined): Uint8Array {
  if (base64 === undefined) return randomBytes(SECRET_BYTES);
  const secret = decodeBytes(base64);
  if (secret !== undefined && secret.length >= SECRET_BYTES) return secret;
  throw invalid(`--secret must be base64 of at least ${SECRET_BYTES} bytes`);
}

/** A tunnel that nobody can run is of no use: without a file it is deleted again. */
async function keepCredentials(
  { api, values, folder, context }: Management,
  tunnel: CreatedTunnel,
  secret: Uint8Array,
): Promise<string> {
  const asked = values.string("credentials-file");
  const path = asked === undefined ? join(folder, `${tunnel.id}.json`) : resolve(expandHome(context.host, asked));
  try {
    writeCredentials(path, await credentialsOf({ api, tunnel, secret }));
    return path;
  } catch (error) {
    const undone = await deleteTunnel(api, tunnel.id, true).then(
      () => "The tunnel was deleted again",
      (failure: unknown) => `Delete the tunnel with culvert tunnel delete ${tunnel.id}: ${describe(failure)}`,
    );
    throw new TunnelError("config.invalid", `${CANNOT_WRITE}: ${describe(error)}. ${undone}`);
  }
}

/** An edge of one's own says in the token where it is; Cloudflare need not. */
async function credentialsOf(of: {
  readonly api: Management["api"];
  readonly tunnel: CreatedTunnel;
  readonly secret: Uint8Array;
}): Promise<Credentials> {
  const { api, tunnel, secret } = of;
  const parsed = parseToken(tunnel.token ?? (await tunnelToken(api, tunnel.id)));
  if (!parsed.ok) throw new TunnelError("api.failed", "the API gave a token that cannot be read");
  return { ...parsed.value, tunnelSecret: secret };
}

/** Its errors are the second half of a sentence. */
function writeCredentials(path: string, credentials: Credentials): void {
  const fail = (error: unknown, why = whyNotWritten(error)): TunnelError =>
    new TunnelError("config.invalid", `"${path}": ${why}`, { cause: error });
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  } catch (error) {
    // Folders that are there do not matter.
    throw systemCode(error) === "EEXIST" ? fail(error, "part of its path is not a folder") : fail(error);
  }
  try {
    writeFileSync(path, formatCredentials(credentials), { mode: CREDENTIALS_MODE, flag: "wx" });
  } catch (error) {
    if (systemCode(error) === "EEXIST") {
      throw new TunnelError("config.invalid", `there is a file at "${path}" already, which is not overwritten`);
    }
    discard(path);
    throw fail(error);
  }
}
