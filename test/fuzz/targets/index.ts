import type { Target } from "../target.ts";
import { proxyProtocol } from "./addresses.ts";
import { capnp, rpc } from "./capnp.ts";
import { config } from "./config.ts";
import { token } from "./credentials.ts";
import { dnsAnswers } from "./dns.ts";
import { headerPacking } from "./header-packing.ts";
import { hpack } from "./hpack.ts";
import { h1Requests, h1Responses } from "./http-messages.ts";
import { h2Connection, h2Frames } from "./http2.ts";
import { originExchange } from "./origin-exchange.ts";
import { quicPackets, quicStreams } from "./quic.ts";
import { rules } from "./rules.ts";
import { socks5, socks5Session } from "./socks5.ts";
import { webSocket } from "./websocket.ts";

/** Everything that reads bytes of somebody else's choice. */
export const TARGETS: readonly Target[] = [
  config,
  rules,
  socks5,
  socks5Session,
  webSocket,
  h1Requests,
  h1Responses,
  originExchange,
  headerPacking,
  h2Frames,
  hpack,
  h2Connection,
  capnp,
  rpc,
  quicPackets,
  quicStreams,
  proxyProtocol,
  token,
  dnsAnswers,
];
