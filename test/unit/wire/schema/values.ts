import { parseConnectionId, parseConnectorId, parseTunnelId } from "../../../../src/core/ids.ts";
import type { ConnectionResponse, RegisterConnectionParams } from "../../../../src/wire/schema/registration-server.ts";

// What the vectors of test/vectors/rpc hold (see the README there).

export const REGISTER: RegisterConnectionParams = {
  auth: {
    accountTag: "0123456789abcdef0123456789abcdef",
    tunnelSecret: Uint8Array.from({ length: 32 }, (_, i) => i),
  },
  tunnelId: parseTunnelId("01234567-89ab-cdef-0123-456789abcdef")!,
  connIndex: 0,
  options: {
    client: {
      clientId: parseConnectorId("11111111-2222-3333-4444-555555555555")!,
      features: [
        "allow_remote_config",
        "serialized_headers",
        "support_datagram_v2",
        "support_quic_eof",
        "management_logs",
      ],
      version: "2026.8.2",
      arch: "linux_amd64",
    },
    originLocalIp: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 10),
    replaceExisting: false,
    compressionQuality: 0,
    numPreviousAttempts: 1,
  },
};

export const CONNECTED: ConnectionResponse & { kind: "details" } = {
  kind: "details",
  connectionId: parseConnectionId("aabbccdd-0011-2233-4455-66778899aabb")!,
  location: "lis01",
  remotelyManaged: false,
};

export const LOCAL_CONFIGURATION = new TextEncoder().encode(
  '{"ingress":[{"service":"http_status:404","originRequest":{}}],"warp-routing":{}}',
);
