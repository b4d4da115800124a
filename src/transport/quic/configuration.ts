import { TunnelError } from "../../core/errors.ts";
import type { RpcConnection } from "../../wire/rpc/connection.ts";
import { handleMethod, type MethodHandler } from "../../wire/rpc/method-handler.ts";
import type { Outcome } from "../../wire/rpc/questions.ts";
import { updateConfiguration } from "../../wire/schema/configuration-manager.ts";
import {
  type ConfigurationAnswer,
  type ConfigurationHandler,
  type ConfigurationUpdate,
  MAX_CONFIGURATION_BYTES,
} from "../port.ts";

/** A pushed configuration over QUIC: one call on an RPC stream of its own (protocol: section 4.4). */

/** `open` starts the RPC stream, which its session cuts after 5 s; undefined = the connection takes none now. */
export function pushConfiguration(
  open: () => RpcConnection | undefined,
  update: ConfigurationUpdate,
): Promise<ConfigurationAnswer> {
  const config = new TextEncoder().encode(update.config);
  if (config.length > MAX_CONFIGURATION_BYTES) {
    return Promise.reject(new TunnelError("config.invalid", "The configuration is too large to be pushed"));
  }
  return new Promise((resolve, reject) => {
    const rpc = open();
    if (rpc === undefined) {
      reject(new TunnelError("stream.limit", "The connection takes no new stream now", { retry: "elsewhere" }));
      return;
    }
    rpc.call(rpc.bootstrap(), updateConfiguration, { version: update.version, config }, (outcome) => {
      if (outcome.kind === "results") resolve(outcome.value);
      else reject(failure(outcome));
      rpc.close();
    });
  });
}

function failure(outcome: Exclude<Outcome<ConfigurationAnswer>, { kind: "results" }>): TunnelError {
  switch (outcome.kind) {
    case "exception":
      return new TunnelError("stream.refused", `The connector takes no configuration: ${outcome.reason}`);
    case "malformed":
      return new TunnelError("stream.protocol", `The connector's answer cannot be read: ${outcome.reason}`);
    case "lost":
      return new TunnelError("stream.reset", "The connector did not answer to its configuration");
  }
}

/** What a connector serves. */
export function configurationMethod(handler: ConfigurationHandler): MethodHandler {
  return handleMethod(updateConfiguration, ({ version, config }, respond) => {
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(config);
    } catch {
      respond.exception("failed", "the configuration is no UTF-8");
      return;
    }
    void handler({ version, config: text }).then((answer) => respond.results(answer));
  });
}
