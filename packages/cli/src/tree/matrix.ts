/** `bureau matrix`: commands about rooms, state and messages. */
import { adminTokenFlag, type CommandGroup, homeFlag, jsonFlag, sessionFlags } from "../command/command.ts";
import { fleetFlag } from "./fleet-flag.ts";

const operatorFlag = {
  operator: {
    type: "boolean",
    summary: "In every room of the namespace, with the administrator's power there",
  },
} as const;

export const matrix: CommandGroup = {
  name: "matrix",
  summary: "Rooms, state and messages, directly",
  commands: [
    {
      name: "setup",
      summary: "Set up a namespace on a homeserver: administrator, rooms, templates",
      details:
        "Works on any homeserver that registers accounts with a token. Run again it makes what is missing. The credential\nfile (0600) is the administrator's; an operator session is kept as well, unless there is one.",
      flags: {
        ...homeFlag,
        ...jsonFlag,
        homeserver: {
          type: "string",
          value: "URL",
          summary: "The homeserver (default: http://localhost:6167)",
        },
        "registration-token-file": {
          type: "string",
          value: "PATH",
          summary: 'File with the homeserver\'s registration token; "-" for standard input',
        },
        "credential-file": {
          type: "string",
          value: "PATH",
          summary: "Where the administrator's credentials go (default: ~/.config/bureau/credentials)",
        },
        "server-name": { type: "string", value: "NAME", summary: "What the homeserver must call itself" },
        namespace: { type: "string", value: "NAME", summary: "The namespace (default: bureau)" },
        "admin-user": {
          type: "string",
          value: "NAME",
          summary: "The administrator's localpart (default: bureau-admin)",
        },
        invite: { type: "string", value: "USER", multiple: true, summary: "Invite a user ID" },
        "admin-token-file": {
          type: "string",
          value: "PATH",
          summary:
            "Access token of a server admin, to lift the homeserver's rate limits for the administrator",
        },
        "server-admin": {
          type: "boolean",
          summary:
            "Make the administrator a server admin too: lets it revoke and limit its machines and agents",
        },
      },
      examples: [
        "bureau matrix setup --homeserver https://matrix.example.org --registration-token-file token --credential-file creds",
      ],
      load: () => import("../matrix/setup.ts"),
    },
    {
      name: "user",
      summary: "People who can log in",
      commands: [
        {
          name: "create",
          summary: "Make an account for a person",
          details:
            "The person joins the namespace's space and lobby; with --operator also every room of the namespace, its fleets\nand their machines. Needs the registration token (--credential-file) or a server admin.",
          positionals: [{ name: "name", summary: "Localpart of the account, such as alice" }],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            ...fleetFlag,
            ...operatorFlag,
            ...adminTokenFlag,
            "password-file": {
              type: "string",
              value: "PATH",
              summary: 'File with its password, "-" for standard input (default: asked for)',
            },
          },
          examples: ["bureau matrix user create alice", "bureau matrix user create bob --operator"],
          load: () => import("../matrix/user/create.ts"),
        },
        {
          name: "list",
          summary: "List the people who can log in",
          flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag, ...adminTokenFlag },
          examples: ["bureau matrix user list"],
          load: () => import("../matrix/user/list.ts"),
        },
        {
          name: "invite",
          summary: "Invite a person to the namespace's rooms",
          details: "Run it again to invite to rooms created since, such as those of a new machine.",
          positionals: [{ name: "name", summary: "Localpart of the account, or user ID" }],
          flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag, ...operatorFlag },
          examples: [
            "bureau matrix user invite alice",
            "bureau matrix user invite @bob:example.org --operator",
          ],
          load: () => import("../matrix/user/invite.ts"),
        },
      ],
    },
    {
      name: "room",
      summary: "Rooms you are in",
      commands: [
        {
          name: "list",
          summary: "List the rooms you are in",
          flags: { ...sessionFlags, ...jsonFlag },
          examples: ["bureau matrix room list"],
          load: () => import("../matrix/room/list.ts"),
        },
        {
          name: "members",
          summary: "List who is in a room",
          positionals: [{ name: "room", summary: "Alias, its localpart, or room ID" }],
          flags: { ...sessionFlags, ...jsonFlag },
          examples: ["bureau matrix room members bureau/lobby"],
          load: () => import("../matrix/room/members.ts"),
        },
        {
          name: "join",
          summary: "Accept invitations; without a room, show those you have",
          positionals: [
            { name: "room", summary: "Alias, its localpart, or room ID", rest: true, optional: true },
          ],
          flags: { ...sessionFlags, ...jsonFlag },
          examples: ["bureau matrix room join", "bureau matrix room join bureau/system bureau/template"],
          load: () => import("../matrix/room/join.ts"),
        },
        {
          name: "create",
          summary: "Create a room",
          positionals: [{ name: "alias", summary: "Localpart of its alias" }],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            name: { type: "string", value: "TEXT", summary: "Its name" },
            topic: { type: "string", value: "TEXT", summary: "Its topic" },
            invite: { type: "string", value: "USER", multiple: true, summary: "Invite a user ID" },
          },
          examples: ["bureau matrix room create team/build --name 'Build' --invite @alice:bureau.local"],
          load: () => import("../matrix/room/create.ts"),
        },
      ],
    },
    {
      name: "state",
      summary: "State events of a room",
      commands: [
        {
          name: "get",
          summary: "Print state of a room: all of it, a type, or one event",
          positionals: [
            { name: "room", summary: "Alias, its localpart, or room ID" },
            { name: "type", summary: "Event type", optional: true },
          ],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            key: {
              type: "string",
              value: "KEY",
              mayBeEmpty: true,
              summary: "State key: print only that event's content",
            },
          },
          examples: ["bureau matrix state get bureau/template m.bureau.template --key agent"],
          load: () => import("../matrix/state/get.ts"),
        },
        {
          name: "set",
          summary: "Write a state event",
          positionals: [
            { name: "room", summary: "Alias, its localpart, or room ID" },
            { name: "type", summary: "Event type" },
            { name: "content", summary: 'JSON object, or "-" for standard input' },
          ],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            key: { type: "string", value: "KEY", mayBeEmpty: true, summary: "State key (default: empty)" },
          },
          examples: [`bureau matrix state set bureau/lobby m.room.topic '{"topic":"Say hello"}'`],
          load: () => import("../matrix/state/set.ts"),
        },
      ],
    },
    {
      name: "send",
      summary: "Send a text message to a room",
      positionals: [
        { name: "room", summary: "Alias, its localpart, or room ID" },
        { name: "text", summary: "The message", rest: true },
      ],
      flags: { ...sessionFlags, ...jsonFlag },
      examples: ["bureau matrix send bureau/lobby hello"],
      load: () => import("../matrix/send.ts"),
    },
    {
      name: "messages",
      summary: "Print the last messages of a room",
      positionals: [{ name: "room", summary: "Alias, its localpart, or room ID" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        limit: { type: "string", value: "N", summary: "How many (default: 20)" },
      },
      examples: ["bureau matrix messages bureau/lobby"],
      load: () => import("../matrix/messages.ts"),
    },
  ],
};
