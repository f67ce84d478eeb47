/**
 * Protocol Buffers' wire format, the writing half of it, for messages that hold tensors too large to copy:
 * a message is a list of chunks, and bytes that are put in stay where they are.
 */
export class Message {
  readonly chunks: Uint8Array[] = [];
  length = 0;

  /** An integer of any signedness, or an enum. */
  int(field: number, value: number): this {
    return this.put(varint(field * 8)).put(varint(value));
  }

  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.put(varint(field * 8 + 5)).put(bytes);
  }

  bytes(field: number, value: Uint8Array): this {
    return this.put(varint(field * 8 + 2))
      .put(varint(value.length))
      .put(value);
  }

  string(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value));
  }

  message(field: number, value: Message): this {
    this.put(varint(field * 8 + 2)).put(varint(value.length));
    for (const chunk of value.chunks) this.put(chunk);
    return this;
  }

  private put(chunk: Uint8Array): this {
    this.chunks.push(chunk);
    this.length += chunk.length;
    return this;
  }
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
