/** The version of the tree this program was built from. */
import { version as ofTree } from "../../../package.json";

export const version: string = ofTree;
