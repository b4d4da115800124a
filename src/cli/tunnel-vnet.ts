import { addNetwork, deleteNetwork, listNetworks, updateNetwork } from "../api-client/networks.ts";
import type { Context } from "./command.ts";
import { formatOf, positionals, printValue, renderTable, UsageError, withApi } from "./management.ts";
import { VNET_ADD_FLAGS, VNET_DELETE_FLAGS, VNET_LIST_FLAGS, VNET_UPDATE_FLAGS } from "./management-flags.ts";
import { findNetwork, formatTime } from "./tunnel-route.ts";

/** `culvert tunnel vnet add NAME [COMMENT]`. */
export function add(context: Context): Promise<number> {
  return withApi(context, "tunnel vnet add", VNET_ADD_FLAGS, async ({ api, values }) => {
    const [name, comment = "", ...more] = context.positionals;
    if (name === undefined || more.length > 0) {
      throw new UsageError("Give NAME [COMMENT]; put a comment of several words in quotes");
    }
    const made = await addNetwork(api, { name, comment, isDefault: values.bool("default") });
    const asDefault = made.is_default_network ? " (as the new default for this account) " : "";
    context.print(`Successfully added virtual 'network' ${made.name} with ID: ${made.id}${asDefault}`);
    context.print(
      "You can now add IP routes attached to this virtual network. See `culvert tunnel route ip add --help`",
    );
  });
}

/** `culvert tunnel vnet list`. */
export function list(context: Context): Promise<number> {
  return withApi(context, "tunnel vnet list", VNET_LIST_FLAGS, async ({ api, values }) => {
    const format = formatOf(values);
    const networks = await listNetworks(api, {
      id: values.string("id"),
      name: values.string("name"),
      is_default: values.source("is-default") === undefined ? undefined : values.bool("is-default"),
      is_deleted: values.bool("show-deleted") ? undefined : false,
    });
    if (format !== "table") {
      printValue(context, format, networks);
      return;
    }
    if (networks.length === 0) {
      context.print(
        "No virtual networks were found for the given filter flags. You can use 'culvert tunnel vnet add' to add a virtual network.",
      );
      return;
    }
    const rows = networks.map((network) => [
      ...[network.id, network.name, String(network.is_default_network), network.comment],
      ...[formatTime(network.created_at), formatTime(network.deleted_at)],
    ]);
    for (const line of renderTable([["ID", "NAME", "IS DEFAULT", "COMMENT", "CREATED", "DELETED"], ...rows])) {
      context.print(line);
    }
  });
}

/** `culvert tunnel vnet delete VNET`. */
export function remove(context: Context): Promise<number> {
  return withApi(context, "tunnel vnet delete", VNET_DELETE_FLAGS, async ({ api, values }) => {
    const [named] = positionals(context, ["VNET"]);
    await deleteNetwork(api, (await findNetwork(api, named)) ?? named, values.bool("force"));
    context.print(`Successfully deleted virtual network '${named}'`);
  });
}

/** `culvert tunnel vnet update VNET`. */
export function update(context: Context): Promise<number> {
  return withApi(context, "tunnel vnet update", VNET_UPDATE_FLAGS, async ({ api, values }) => {
    const [named] = positionals(context, ["VNET"]);
    const change = {
      name: values.string("name"),
      comment: values.source("comment") === undefined ? undefined : (values.string("comment") ?? ""),
      isDefault: values.source("default") === undefined ? undefined : values.bool("default"),
    };
    if (Object.values(change).every((value) => value === undefined)) {
      throw new UsageError("Give what to change: --name, --comment or --default");
    }
    await updateNetwork(api, (await findNetwork(api, named)) ?? named, change);
    context.print(`Successfully updated virtual network '${named}'`);
  });
}
