/** A Matrix error: thrown anywhere in a request, turned into status and JSON at the HTTP edge. */
import type { JsonObject } from "../rooms/room-event.ts";

export class MatrixError extends Error {
  constructor(
    readonly status: number,
    /** `M_…` of the Client-Server API. */
    readonly errcode: string,
    message: string,
    /** Further fields of the JSON body. */
    readonly extra: JsonObject = {},
  ) {
    super(message);
    this.name = "MatrixError";
  }
  body(): JsonObject {
    return { errcode: this.errcode, error: this.message, ...this.extra };
  }
}

export const forbidden = (message: string): MatrixError => new MatrixError(403, "M_FORBIDDEN", message);
export const notFound = (message: string): MatrixError => new MatrixError(404, "M_NOT_FOUND", message);
export const invalidParam = (message: string): MatrixError =>
  new MatrixError(400, "M_INVALID_PARAM", message);
export const badJson = (message: string): MatrixError => new MatrixError(400, "M_BAD_JSON", message);
export const tooLarge = (message: string): MatrixError => new MatrixError(413, "M_TOO_LARGE", message);
