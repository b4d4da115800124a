// SessionManager: UDP sessions of datagram version 2 (protocol: sections 3.4, 4.4 and 4.5).

import type { StructCodec } from "../capnp/struct-codec.ts";
import { emptyStruct, type Method, resultStruct } from "./shared.ts";

const INTERFACE_ID = 0x839445a59fb01686n;

export type RegisterUdpSessionParams = {
  /** 16 bytes. */
  readonly sessionId: Uint8Array;
  /** 4 or 16 bytes. */
  readonly dstIp: Uint8Array;
  readonly dstPort: number;
  /** 0 = the connector's default, 210 s. */
  readonly closeAfterIdleNs: bigint;
  readonly traceContext: string;
};

export type RegisterUdpSessionResponse = {
  /** "" = registered. */
  readonly error: string;
  /** Trace spans, protobuf; may be empty. */
  readonly spans: Uint8Array;
};

export type UnregisterUdpSessionParams = { readonly sessionId: Uint8Array; readonly message: string };

const registerUdpSessionParams: StructCodec<RegisterUdpSessionParams> = {
  dataWords: 2,
  pointerWords: 3,
  read: (view) => ({
    sessionId: view.data(0),
    dstIp: view.data(1),
    dstPort: view.u16(0),
    closeAfterIdleNs: view.i64(8),
    traceContext: view.text(2),
  }),
  write(target, params) {
    target.setData(0, params.sessionId);
    target.setData(1, params.dstIp);
    target.setU16(0, params.dstPort);
    target.setI64(8, params.closeAfterIdleNs);
    target.setText(2, params.traceContext);
  },
};

const registerUdpSessionResponse: StructCodec<RegisterUdpSessionResponse> = {
  dataWords: 0,
  pointerWords: 2,
  read: (view) => ({ error: view.text(0), spans: view.data(1) }),
  write(target, response) {
    target.setText(0, response.error);
    target.setData(1, response.spans);
  },
};

const unregisterUdpSessionParams: StructCodec<UnregisterUdpSessionParams> = {
  dataWords: 0,
  pointerWords: 2,
  read: (view) => ({ sessionId: view.data(0), message: view.text(1) }),
  write(target, params) {
    target.setData(0, params.sessionId);
    target.setText(1, params.message);
  },
};

export const registerUdpSession: Method<RegisterUdpSessionParams, RegisterUdpSessionResponse> = {
  interfaceId: INTERFACE_ID,
  methodId: 0,
  name: "registerUdpSession",
  params: registerUdpSessionParams,
  results: resultStruct(registerUdpSessionResponse),
};

export const unregisterUdpSession: Method<UnregisterUdpSessionParams, void> = {
  interfaceId: INTERFACE_ID,
  methodId: 1,
  name: "unregisterUdpSession",
  params: unregisterUdpSessionParams,
  results: emptyStruct,
};
