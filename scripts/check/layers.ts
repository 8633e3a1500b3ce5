/** The layers of ARCHITECTURE.md as a table. */

/** Package → the packages of ours it may import. `testkit` stands up whole machines and may import all. */
export const arrows: Readonly<Record<string, readonly string[] | "all">> = {
  schema: [],
  kit: ["schema"],
  os: ["kit", "schema"],
  homeserver: ["os", "kit", "schema"],
  launcher: ["os", "kit", "schema"],
  "first-boot": ["launcher", "matrix", "os", "kit", "schema"],
  proxy: ["os", "kit", "schema"],
  "in-sandbox": ["matrix", "os", "kit", "schema"],
  matrix: ["kit", "schema"],
  daemon: ["matrix", "os", "kit", "schema"],
  control: ["matrix", "kit", "schema"],
  instance: ["control", "matrix", "os", "kit", "schema"],
  host: ["instance", "matrix", "os", "kit", "schema"],
  cli: ["control", "instance", "host", "matrix", "os", "kit", "schema"],
  "services/kit": ["in-sandbox", "control", "matrix", "os", "kit", "schema"],
  testkit: "all",
};
