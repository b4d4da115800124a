import * as grpc from "@grpc/grpc-js";

/** Messages are bytes as they are: no schema is needed to see whether they arrive. */
const asIs = (message: Buffer): Buffer => message;

function method(name: string, requestStream: boolean, responseStream: boolean): grpc.MethodDefinition<Buffer, Buffer> {
  return {
    path: `/test.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

const UNARY = method("Unary", false, false);
const COUNT = method("Count", false, true);
const COLLECT = method("Collect", true, false);
const CHAT = method("Chat", true, true);
const FAIL = method("Fail", false, false);
const FAIL_LATE = method("FailLate", false, true);
const HANG = method("Hang", false, false);
const SERVICE: grpc.ServiceDefinition = { UNARY, COUNT, COLLECT, CHAT, FAIL, FAIL_LATE, HANG };

export interface GrpcServer extends AsyncDisposable {
  readonly port: number;
  /** Calls of `hang` now running; each with the ms that its deadline leaves, if it has one. */
  readonly hanging: Set<{ readonly leftMs: number }>;
  readonly cancelled: { count: number };
}

/** A gRPC server of grpc-js without TLS. */
export async function startGrpcServer(): Promise<GrpcServer> {
  const server = new grpc.Server({ "grpc.max_concurrent_streams": 2_000, "grpc.max_receive_message_length": -1 });
  const hanging = new Set<{ leftMs: number }>();
  const cancelled = { count: 0 };
  const implementation: grpc.UntypedServiceImplementation = {
    UNARY: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
      const initial = new grpc.Metadata();
      initial.set("x-initial", String(call.metadata.get("x-own")[0] ?? ""));
      call.sendMetadata(initial);
      const trailing = new grpc.Metadata();
      trailing.set("x-trailing-bin", Buffer.from([0, 1, 255]));
      done(null, call.request, trailing);
    },
    COUNT: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
      const total = Number(call.request.toString());
      let next = 0;
      const go = (): void => {
        while (next < total) {
          const room = call.write(Buffer.from(String(next)));
          next += 1;
          if (room) continue;
          call.once("drain", go);
          return;
        }
        call.end();
      };
      go();
    },
    COLLECT: (call: grpc.ServerReadableStream<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
      let bytes = 0;
      let messages = 0;
      call.on("data", (message: Buffer) => {
        bytes += message.length;
        messages += 1;
      });
      call.on("end", () => done(null, Buffer.from(`${messages} messages, ${bytes} bytes`)));
    },
    CHAT: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      call.on("data", (message: Buffer) => void call.write(Buffer.from(`re: ${message.toString()}`)));
      call.on("end", () => call.end());
      call.on("error", () => {});
    },
    FAIL: (_call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
      done(failure());
    },
    FAIL_LATE: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
      call.write(Buffer.from("so far"));
      call.emit("error", failure());
    },
    HANG: (call: grpc.ServerUnaryCall<Buffer, Buffer>) => {
      const deadline = call.getDeadline();
      const entry = { leftMs: Number(deadline) - Date.now() };
      hanging.add(entry);
      call.on("cancelled", () => {
        cancelled.count += 1;
        hanging.delete(entry);
      });
    },
  };
  server.addService(SERVICE, implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  return {
    port,
    hanging,
    cancelled,
    [Symbol.asyncDispose]: async () => server.forceShutdown(),
  };
}

function failure(): Partial<grpc.StatusObject> & Error {
  const metadata = new grpc.Metadata();
  metadata.set("x-reason", "gone");
  metadata.set("grpc-status-details-bin", Buffer.from("details \0\xff", "latin1"));
  return Object.assign(new Error("no such thing: ä"), {
    code: grpc.status.NOT_FOUND,
    details: "no such thing: ä",
    metadata,
  });
}

/** What a call came to. */
export interface CallResult {
  readonly messages: string[];
  readonly initial: grpc.Metadata | undefined;
  readonly status: grpc.StatusObject;
}

/** A client of grpc-js for that service, one connection to `port` under the name `authority`. */
export class GrpcClient implements Disposable {
  readonly #client: grpc.Client;

  constructor(port: number, authority: string) {
    this.#client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
      "grpc.default_authority": authority,
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  unary(message: Buffer, metadata = new grpc.Metadata()): Promise<CallResult> {
    return this.#one(UNARY, message, metadata, {});
  }

  fail(): Promise<CallResult> {
    return this.#one(FAIL, Buffer.alloc(0), new grpc.Metadata(), {});
  }

  /** `abort` cancels it. */
  hang(options: grpc.CallOptions, abort?: AbortSignal): Promise<CallResult> {
    return this.#one(HANG, Buffer.alloc(0), new grpc.Metadata(), options, abort);
  }

  count(total: number): Promise<CallResult> {
    return readAll(this.#client.makeServerStreamRequest(COUNT.path, asIs, asIs, Buffer.from(String(total))));
  }

  failLate(): Promise<CallResult> {
    return readAll(this.#client.makeServerStreamRequest(FAIL_LATE.path, asIs, asIs, Buffer.alloc(0)));
  }

  /** A method that the server does not have. */
  unknown(): Promise<CallResult> {
    return this.#one(method("Nothing", false, false), Buffer.alloc(0), new grpc.Metadata(), {});
  }

  collect(messages: readonly Buffer[]): Promise<CallResult> {
    return new Promise((resolve) => {
      const seen = new Watched();
      const call = this.#client.makeClientStreamRequest<Buffer, Buffer>(COLLECT.path, asIs, asIs, seen.onUnary);
      seen.watch(call, resolve);
      let next = 0;
      const go = (): void => {
        while (next < messages.length) {
          const room = call.write(messages[next] as Buffer);
          next += 1;
          if (room) continue;
          call.once("drain", go);
          return;
        }
        call.end();
      };
      go();
    });
  }

  chat(): grpc.ClientDuplexStream<Buffer, Buffer> {
    return this.#client.makeBidiStreamRequest(CHAT.path, asIs, asIs);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  #one(
    { path }: { readonly path: string },
    message: Buffer,
    metadata: grpc.Metadata,
    options: grpc.CallOptions,
    abort?: AbortSignal,
  ): Promise<CallResult> {
    return new Promise((resolve) => {
      const seen = new Watched();
      const call = this.#client.makeUnaryRequest<Buffer, Buffer>(
        path,
        asIs,
        asIs,
        message,
        metadata,
        options,
        seen.onUnary,
      );
      seen.watch(call, resolve);
      abort?.addEventListener("abort", () => call.cancel());
    });
  }
}

/** Reads a call of the server's to its end. */
export function readAll(
  call: grpc.ClientReadableStream<Buffer> | grpc.ClientDuplexStream<Buffer, Buffer>,
): Promise<CallResult> {
  return new Promise<CallResult>((resolve) => {
    const seen = new Watched();
    call.on("data", (message: Buffer) => void seen.messages.push(message.toString("latin1")));
    call.on("error", () => {});
    seen.watch(call, resolve);
  });
}

class Watched {
  readonly messages: string[] = [];
  #initial: grpc.Metadata | undefined;
  #left = 1;
  #status: grpc.StatusObject | undefined;
  #resolve: (result: CallResult) => void = () => {};

  /** Answers of one message come by a callback, beside the status. */
  readonly onUnary = (_error: grpc.ServiceError | null, message?: Buffer): void => {
    if (message !== undefined) this.messages.push(message.toString("latin1"));
    this.#settle();
  };

  watch(call: NodeJS.EventEmitter, resolve: (result: CallResult) => void): void {
    this.#resolve = resolve;
    if (!("read" in call)) this.#left = 2;
    call.on("metadata", (metadata: grpc.Metadata) => {
      this.#initial = metadata;
    });
    call.on("status", (status: grpc.StatusObject) => {
      this.#status = status;
      this.#settle();
    });
  }

  #settle(): void {
    this.#left -= 1;
    if (this.#left > 0 || this.#status === undefined) return;
    this.#resolve({ messages: this.messages, initial: this.#initial, status: this.#status });
  }
}
