import { systemAuthorities } from "../../../net/authorities.ts";
import { isLoopbackIp } from "../../../net/loopback.ts";
import type { QuicLimits } from "../engine.ts";
import { addonError, type NativeConfig, type QuicheAddon } from "./quiche-addon.ts";

/**
 * What one stream's peer may send before it is read; doubles up to the maximum while the reader is fast. Small, since a
 * stream that stalls from its start holds it in memory, and thousands of visitors may stall (no slower in bulk than 512).
 */
const INITIAL_STREAM_WINDOW_BYTES = 128 * 1024;
const MAX_STREAM_WINDOW_BYTES = 6 * 1024 * 1024;
/**
 * The window of the whole connection is left open. This release of quiche never gives back the part of it that a reset
 * stream had used, so that any finite window ends in a standstill; what may be unread is bounded by the number of
 * streams times the window of each.
 */
const CONNECTION_WINDOW_BYTES = 2 ** 60;

/** UDP payload that passes any network in use, since this engine does not discover the path's own limit. */
const NETWORK_PACKET_BYTES = 1350;
const NETWORK_RECEIVE_BYTES = 1452;
/** On loopback the limit is known, and fewer packets cost less. */
const LOOPBACK_PACKET_BYTES = 16 * 1024;
const LOOPBACK_RECEIVE_BYTES = 65_527;

const DATAGRAM_QUEUE = 256;
const ACK_DELAY_MS = 26;
/** The least the protocol allows: peers need no second id, since connections stay on their path. */
const CONNECTION_IDS = 2;

/** The longest packet that is sent to an address. */
export function maxPacketBytes(ip: string): number {
  return isLoopbackIp(ip) ? LOOPBACK_PACKET_BYTES : NETWORK_PACKET_BYTES;
}

/** Parameters of protocol: section 4.1, as far as this engine lets them be set. */
export function serverConfig(
  addon: QuicheAddon,
  tls: { cert: string; key: string },
  alpn: string,
  limits: QuicLimits,
  loopback: boolean,
): NativeConfig {
  const encoder = new TextEncoder();
  let config: NativeConfig;
  try {
    const keys = [encoder.encode(tls.key)];
    config = addon.Config.withBoringSslCtx(false, false, null, keys, [encoder.encode(tls.cert)], null);
  } catch (error) {
    throw addonError("use the certificate for QUIC", error);
  }
  return configured(config, alpn, limits, loopback);
}

export function clientConfig(
  addon: QuicheAddon,
  ca: string | undefined,
  alpn: string,
  limits: QuicLimits,
  loopback: boolean,
): NativeConfig {
  const trusted = new TextEncoder().encode(ca ?? systemAuthorities());
  let config: NativeConfig;
  try {
    config = addon.Config.withBoringSslCtx(true, false, trusted, null, null, null);
  } catch (error) {
    throw addonError("use these certificate authorities for QUIC", error);
  }
  return configured(config, alpn, limits, loopback);
}

function configured(config: NativeConfig, alpn: string, limits: QuicLimits, loopback: boolean): NativeConfig {
  config.setApplicationProtos([alpn]);
  config.setMaxIdleTimeout(limits.idleTimeoutMs);
  config.setMaxRecvUdpPayloadSize(loopback ? LOOPBACK_RECEIVE_BYTES : NETWORK_RECEIVE_BYTES);
  config.setMaxSendUdpPayloadSize(loopback ? LOOPBACK_PACKET_BYTES : NETWORK_PACKET_BYTES);
  config.setInitialMaxData(CONNECTION_WINDOW_BYTES);
  config.setMaxConnectionWindow(CONNECTION_WINDOW_BYTES);
  config.setInitialMaxStreamDataBidiLocal(INITIAL_STREAM_WINDOW_BYTES);
  config.setInitialMaxStreamDataBidiRemote(INITIAL_STREAM_WINDOW_BYTES);
  config.setMaxStreamWindow(MAX_STREAM_WINDOW_BYTES);
  config.setInitialMaxStreamsBidi(limits.maxPeerStreams);
  config.setInitialMaxStreamsUni(0);
  config.setMaxAckDelay(ACK_DELAY_MS);
  config.setActiveConnectionIdLimit(CONNECTION_IDS);
  config.setDisableActiveMigration(true);
  config.setCcAlgorithmName("cubic");
  // Its departure times are not readable from here.
  config.enablePacing(false);
  config.enableDgram(true, DATAGRAM_QUEUE, DATAGRAM_QUEUE);
  return config;
}
