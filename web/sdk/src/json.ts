/** Reads one value that came from outside; throws {@link JsonError} when it is not what was expected. */
export type Reader<T> = (value: unknown, at: string) => T;

/** A value from outside that is not what was expected. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

export const string: Reader<string> = (value, at) =>
  typeof value === 'string' ? value : wrong('a string', at);

export const number: Reader<number> = (value, at) =>
  typeof value === 'number' && Number.isFinite(value) ? value : wrong('a number', at);

export const boolean: Reader<boolean> = (value, at) =>
  typeof value === 'boolean' ? value : wrong('true or false', at);

export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return (value, at) => (value === null || value === undefined ? null : read(value, at));
}

export function array<T>(read: Reader<T>): Reader<T[]> {
  return (value, at) =>
    Array.isArray(value) ? value.map((item, i) => read(item, `${at}[${i}]`)) : wrong('a list', at);
}

export function oneOf<const T extends string>(...words: readonly T[]): Reader<T> {
  return (value, at) =>
    words.find((word) => word === value) ?? wrong(`one of ${words.join(', ')}`, at);
}

/** Reads each field of an object; fields that are not named are left out of the result. */
export function object<T extends object>(fields: Fields<T>): Reader<T> {
  return (value, at) => {
    const from = record(value, at);
    const result: Partial<T> = {};
    for (const key in fields) {
      const read = fields[key](from[key], `${at}.${key}`);
      if (read !== undefined) result[key] = read;
    }
    return result as T;
  };
}

/** A reader for each field; only one for a field that may be missing may return `undefined`. */
export type Fields<T> = {
  [K in keyof T]-?: Record<never, never> extends Pick<T, K>
    ? Reader<T[K] | undefined>
    : Reader<T[K]>;
};

/** A field that may be missing. */
export function optional<T>(read: Reader<T>): Reader<T | undefined> {
  return (value, at) => (value === null || value === undefined ? undefined : read(value, at));
}

export function record(value: unknown, at: string): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : wrong('an object', at);
}

function wrong(expected: string, at: string): never {
  throw new JsonError(`${at} is not ${expected}`);
}
