import { dial } from "../net/dial.ts";
import type { ProxySettings } from "../net/proxy-settings.ts";
import type { Connection } from "../net/sockets.ts";
import type { AppAddress, ConnectTo } from "./address.ts";

/** How this machine reaches applications. */
export interface DialSettings {
  /** PEM text of the authorities to trust; undefined = the system's. */
  readonly ca: string | undefined;
  /** Dialled instead of every application. */
  readonly connectTo: ConnectTo | undefined;
  /** The proxy on the way to an address, if one applies. */
  readonly proxyFor: (to: ProxyTarget) => ProxySettings | undefined;
}

export interface ProxyTarget {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
}

/** Connects to an application, with TLS where its address says so. Rejects as `dial` does. */
export function dialApp(
  app: AppAddress,
  settings: DialSettings,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<Connection> {
  const { connectTo, ca } = settings;
  const host = connectTo?.host ?? app.host;
  const port = connectTo?.port ?? app.port;
  const tls = {
    serverName: connectTo?.serverName ?? app.host,
    verify: connectTo?.serverName === undefined,
    ca,
    alpn: ["http/1.1"],
  };
  return dial(
    { host, port },
    {
      ...options,
      proxy: settings.proxyFor({ secure: app.secure, host, port }),
      ...(app.secure ? { tls } : {}),
    },
  );
}
