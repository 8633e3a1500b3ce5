/** `bureau fleet`: commands about fleets. */
import { type CommandGroup, jsonFlag, sessionFlags } from "../command/command.ts";

export const fleet: CommandGroup = {
  name: "fleet",
  summary: "Fleets: machines that are run together",
  commands: [
    {
      name: "create",
      summary: "Make the rooms of a fleet",
      details: "The namespace must be set up. Run again it makes what is missing.",
      positionals: [{ name: "fleet", summary: "NAMESPACE/fleet/NAME" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        invite: { type: "string", value: "USER", multiple: true, summary: "Invite a user ID" },
      },
      examples: ["bureau fleet create bureau/fleet/prod --invite @alice:bureau.local"],
      load: () => import("../fleet/create.ts"),
    },
    {
      name: "list",
      summary: "List the fleets of a namespace",
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        namespace: { type: "string", value: "NAME", summary: "The namespace (default: this machine's)" },
      },
      examples: ["bureau fleet list"],
      load: () => import("../fleet/list.ts"),
    },
    {
      name: "use",
      summary:
        "Choose the fleet that commands without --fleet are about, on a host that is no machine of one",
      positionals: [{ name: "fleet", summary: "NAMESPACE/fleet/NAME" }],
      flags: { ...sessionFlags, ...jsonFlag },
      examples: ["bureau fleet use bureau/fleet/prod"],
      load: () => import("../fleet/use.ts"),
    },
    {
      name: "cache",
      summary: "Show or set the Nix binary cache that the fleet's machines fetch from",
      details:
        "Without flags it is shown. Doctor lets each machine's Nix ask it, and trust what its keys have signed.",
      positionals: [{ name: "fleet", summary: "NAMESPACE/fleet/NAME" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        url: { type: "string", value: "URL", summary: "Its address" },
        "public-key": {
          type: "string",
          value: "NAME:BASE64",
          multiple: true,
          summary: "A key whose signatures machines trust (instead of those before)",
        },
        name: { type: "string", value: "NAME", summary: "Its own name for itself (Attic)" },
        "compose-template": {
          type: "string",
          value: "REF",
          summary: "Template that builds environments for it",
        },
        "default-system": { type: "string", value: "SYSTEM", summary: "What environments are built for" },
      },
      examples: [
        "bureau fleet cache bureau/fleet/prod",
        "bureau fleet cache bureau/fleet/prod --url http://cache.internal:8080 --public-key prod-1:s0XDn…=",
      ],
      load: () => import("../fleet/cache.ts"),
    },
  ],
};
