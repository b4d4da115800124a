import type { ByteChannel } from "../net/channel.ts";
import { type RpcCloseReason, RpcConnection } from "../wire/rpc/connection.ts";
import type { MethodHandler } from "../wire/rpc/method-handler.ts";

/**
 * Runs an RPC connection over a byte channel. While the peer does not read, nothing of it is read either, so answers
 * cannot pile up. Our direction of the channel ends with the connection. `onGone` is called once the channel is over too.
 */
export function openRpc(
  channel: ByteChannel,
  options: { methods?: readonly MethodHandler[]; onClosed: (reason: RpcCloseReason) => void; onGone?: () => void },
): RpcConnection {
  const rpc = new RpcConnection({
    send(message) {
      if (!channel.write(message)) channel.pause();
    },
    onClosed(reason) {
      // Paused, the channel would never deliver the end that lets it close.
      channel.resume();
      channel.end();
      options.onClosed(reason);
    },
    methods: options.methods ?? [],
  });
  channel.listen({
    onData: (chunk) => rpc.receive(chunk),
    onDrain: () => channel.resume(),
    onEnd: () => rpc.lose(),
    onClose: () => {
      rpc.lose();
      options.onGone?.();
    },
  });
  return rpc;
}
