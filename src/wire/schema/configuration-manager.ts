// ConfigurationManager: what an edge calls on a connector over QUIC (protocol: sections 3.4 and 4.4).

import type { StructCodec } from "../capnp/struct-codec.ts";
import { type Method, resultStruct } from "./shared.ts";

export type UpdateConfigurationParams = {
  readonly version: number;
  /** JSON (protocol: section 6). */
  readonly config: Uint8Array;
};

export type UpdateConfigurationResponse = {
  /** The version in force after the call; -1 when none was ever applied. */
  readonly latestAppliedVersion: number;
  /** Why the configuration was refused; "" when it was not. */
  readonly error: string;
};

const updateConfigurationParams: StructCodec<UpdateConfigurationParams> = {
  dataWords: 1,
  pointerWords: 1,
  read: (view) => ({ version: view.i32(0), config: view.data(0) }),
  write(target, params) {
    target.setI32(0, params.version);
    target.setData(0, params.config);
  },
};

const updateConfigurationResponse: StructCodec<UpdateConfigurationResponse> = {
  dataWords: 1,
  pointerWords: 1,
  read: (view) => ({ latestAppliedVersion: view.i32(0), error: view.text(0) }),
  write(target, response) {
    target.setI32(0, response.latestAppliedVersion);
    target.setText(0, response.error);
  },
};

export const updateConfiguration: Method<UpdateConfigurationParams, UpdateConfigurationResponse> = {
  interfaceId: 0xb48edfbdaa25db04n,
  methodId: 0,
  name: "updateConfiguration",
  params: updateConfigurationParams,
  results: resultStruct(updateConfigurationResponse),
};
