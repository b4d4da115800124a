// RegistrationServer: what a connector calls on its edge (protocol: sections 3.3, 3.4 and 3.6).

import {
  type ConnectionId,
  type ConnectorId,
  connectionIdFromBytes,
  connectorIdFromBytes,
  type TunnelId,
  tunnelIdFromBytes,
  uuidToBytes,
} from "../../core/ids.ts";
import type { StructBuilder } from "../capnp/builder.ts";
import { DecodeError } from "../capnp/decoded.ts";
import type { StructReader } from "../capnp/message.ts";
import type { StructCodec } from "../capnp/struct-codec.ts";
import { emptyStruct, type Method, requireField, resultStruct } from "./shared.ts";

const INTERFACE_ID = 0xf71695ec7fe85497n;

/** Who may run the tunnel. The secret is raw bytes and never goes into a log. */
export type TunnelAuth = { readonly accountTag: string; readonly tunnelSecret: Uint8Array };

export type ClientInfo = {
  readonly clientId: ConnectorId;
  /** Feature names, unordered (protocol: section 4.8). */
  readonly features: readonly string[];
  readonly version: string;
  /** `GOOS_GOARCH`, such as `linux_amd64`. */
  readonly arch: string;
};

export type ConnectionOptions = {
  readonly client: ClientInfo;
  /** 16 bytes, IPv4 in mapped form; may be empty. */
  readonly originLocalIp: Uint8Array;
  readonly replaceExisting: boolean;
  readonly compressionQuality: number;
  /** Failures of this connection index since its last success, 0 to 255. */
  readonly numPreviousAttempts: number;
};

export type RegisterConnectionParams = {
  readonly auth: TunnelAuth;
  readonly tunnelId: TunnelId;
  /** The connector's slot, 0 to 255. */
  readonly connIndex: number;
  readonly options: ConnectionOptions;
};

export type ConnectionResponse =
  | {
      readonly kind: "details";
      readonly connectionId: ConnectionId;
      /** Place of the edge, such as `lis01`. */
      readonly location: string;
      /** True when the edge will push the configuration. */
      readonly remotelyManaged: boolean;
    }
  | {
      readonly kind: "error";
      readonly cause: string;
      readonly retryAfterNs: bigint;
      readonly shouldRetry: boolean;
    };

const RESPONSE_ERROR = 0;
const RESPONSE_DETAILS = 1;
const SHOULD_RETRY_BIT = 64;

const clientInfo: StructCodec<ClientInfo> = {
  dataWords: 0,
  pointerWords: 4,
  read: (view) => ({
    clientId: requireField(connectorIdFromBytes(view.data(0)), "clientId"),
    features: view.textList(1),
    version: view.text(2),
    arch: view.text(3),
  }),
  write(target, client) {
    target.setData(0, uuidToBytes(client.clientId));
    target.setTextList(1, client.features);
    target.setText(2, client.version);
    target.setText(3, client.arch);
  },
};

const connectionOptions: StructCodec<ConnectionOptions> = {
  dataWords: 1,
  pointerWords: 2,
  read: (view) => ({
    client: clientInfo.read(view.struct(0)),
    originLocalIp: view.data(1),
    replaceExisting: view.bool(0),
    compressionQuality: view.u8(1),
    numPreviousAttempts: view.u8(2),
  }),
  write(target, options) {
    target.setBool(0, options.replaceExisting);
    target.setU8(1, options.compressionQuality);
    target.setU8(2, options.numPreviousAttempts);
    clientInfo.write(target.struct(0, clientInfo.dataWords, clientInfo.pointerWords), options.client);
    target.setData(1, options.originLocalIp);
  },
};

const registerConnectionParams: StructCodec<RegisterConnectionParams> = {
  dataWords: 1,
  pointerWords: 3,
  read(view) {
    const auth = view.struct(0);
    return {
      auth: { accountTag: auth.text(0), tunnelSecret: auth.data(1) },
      tunnelId: requireField(tunnelIdFromBytes(view.data(1)), "tunnelId"),
      connIndex: view.u8(0),
      options: connectionOptions.read(view.struct(2)),
    };
  },
  write(target, params) {
    target.setU8(0, params.connIndex);
    const auth = target.struct(0, 0, 2);
    auth.setText(0, params.auth.accountTag);
    auth.setData(1, params.auth.tunnelSecret);
    target.setData(1, uuidToBytes(params.tunnelId));
    const options = target.struct(2, connectionOptions.dataWords, connectionOptions.pointerWords);
    connectionOptions.write(options, params.options);
  },
};

const connectionResponse: StructCodec<ConnectionResponse> = {
  dataWords: 1,
  pointerWords: 1,
  read(view) {
    const which = view.u16(0);
    if (which === RESPONSE_ERROR) return readError(view.struct(0));
    if (which === RESPONSE_DETAILS) return readDetails(view.struct(0));
    throw new DecodeError("connection response of an unknown kind");
  },
  write(target, response) {
    if (response.kind === "error") writeError(target, response);
    else writeDetails(target, response);
  },
};

function readError(view: StructReader): ConnectionResponse {
  return { kind: "error", cause: view.text(0), retryAfterNs: view.i64(0), shouldRetry: view.bool(SHOULD_RETRY_BIT) };
}

function writeError(target: StructBuilder, response: ConnectionResponse & { kind: "error" }): void {
  target.setU16(0, RESPONSE_ERROR);
  const error = target.struct(0, 2, 1);
  error.setText(0, response.cause);
  error.setI64(0, response.retryAfterNs);
  error.setBool(SHOULD_RETRY_BIT, response.shouldRetry);
}

function readDetails(view: StructReader): ConnectionResponse {
  return {
    kind: "details",
    connectionId: requireField(connectionIdFromBytes(view.data(0)), "connection uuid"),
    location: view.text(1),
    remotelyManaged: view.bool(0),
  };
}

function writeDetails(target: StructBuilder, response: ConnectionResponse & { kind: "details" }): void {
  target.setU16(0, RESPONSE_DETAILS);
  const details = target.struct(0, 1, 2);
  details.setData(0, uuidToBytes(response.connectionId));
  details.setText(1, response.location);
  details.setBool(0, response.remotelyManaged);
}

const localConfiguration: StructCodec<Uint8Array> = {
  dataWords: 0,
  pointerWords: 1,
  read: (view) => view.data(0),
  write: (target, config) => target.setData(0, config),
};

export const registerConnection: Method<RegisterConnectionParams, ConnectionResponse> = {
  interfaceId: INTERFACE_ID,
  methodId: 0,
  name: "registerConnection",
  params: registerConnectionParams,
  results: resultStruct(connectionResponse),
};

export const unregisterConnection: Method<void, void> = {
  interfaceId: INTERFACE_ID,
  methodId: 1,
  name: "unregisterConnection",
  params: emptyStruct,
  results: emptyStruct,
};

/** Params: the local configuration as JSON bytes (protocol: section 6). */
export const updateLocalConfiguration: Method<Uint8Array, void> = {
  interfaceId: INTERFACE_ID,
  methodId: 2,
  name: "updateLocalConfiguration",
  params: localConfiguration,
  results: emptyStruct,
};
