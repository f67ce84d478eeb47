import { Layer, project32, type DefaultProps, type UpdateParameters } from '@deck.gl/core';
import { Model } from '@luma.gl/engine';

/** A move of all points, in milliseconds of `performance.now()`. */
export interface Move {
  began: number;
  duration: number;
}

/** x and y of each point; above 1e29 it is not drawn. */
export interface PlaceAttribute {
  value: Float32Array;
  size: 2;
}

/** Red, green, blue and alpha of each point. */
export interface ColourAttribute {
  value: Uint8Array;
  size: 4;
  normalized: true;
}

/** As the graphics card takes them, so that no accessor is called for each point. */
interface Points {
  length: number;
  attributes: {
    /** Where a point comes from, and where it is after the move. */
    origins: PlaceAttribute;
    positions: PlaceAttribute;
    colors: ColourAttribute;
  };
}

interface PointsLayerProps {
  data: Points;
  /** In pixels. */
  size: number;
  move: Move;
}

const block = `\
layout(std140) uniform pointsUniforms {
  float size;
  float progress;
} points;
`;
const uniforms = {
  ...{ name: 'points', vs: block, fs: block, source: '' },
  uniformTypes: { size: 'f32', progress: 'f32' },
} as const;

const vs = `\
#version 300 es
in vec2 origins;
in vec2 positions;
in vec4 colors;
out vec4 color;
void main() {
  color = colors;
  vec3 place = vec3(mix(origins, positions, points.progress), 0.0);
  gl_Position = positions.x > 1e29
    ? vec4(2.0, 2.0, 2.0, 1.0)
    : project_position_to_clipspace(place, vec3(0.0), vec3(0.0), geometry.position);
  gl_PointSize = points.size * project.devicePixelRatio;
}
`;

const fs = `\
#version 300 es
precision highp float;
in vec4 color;
out vec4 fragColor;
void main() {
  vec2 fromMiddle = gl_PointCoord - 0.5;
  if (dot(fromMiddle, fromMiddle) > 0.25) discard;
  fragColor = color;
}
`;

const defaultProps: DefaultProps<PointsLayerProps> = {
  size: { type: 'number', min: 0, value: 4 },
  move: { type: 'object', value: { began: 0, duration: 0 } },
};

/** How much of a move is done, from 0 to 1, slow at both ends. */
export function progressOf({ began, duration }: Move): number {
  const share = duration > 0 ? Math.min(1, (performance.now() - began) / duration) : 1;
  return share * share * (3 - 2 * share);
}

/**
 * Discs, each one vertex: a program draws them where there is no graphics card, and ScatterplotLayer's four, with their
 * smooth edges, took it thirty times as long. They are moved by the same vertex, where deck.gl's transitions write all
 * places once more for each frame.
 */
export class PointsLayer extends Layer<Required<PointsLayerProps>> {
  static override layerName = 'PointsLayer';
  static override defaultProps = defaultProps;
  declare state: { model?: Model };

  override getShaders(): unknown {
    return super.getShaders({ vs, fs, modules: [project32, uniforms] });
  }

  override initializeState(): void {
    // None has an accessor: deck.gl is told that it needn't make them, or refuses them.
    this.getAttributeManager()!.add({
      origins: { size: 2, noAlloc: true },
      positions: { size: 2, noAlloc: true },
      colors: { size: 4, type: 'unorm8', noAlloc: true },
    });
    this.state.model = new Model(this.context.device, {
      ...(this.getShaders() as { vs: string; fs: string }),
      id: this.props.id,
      bufferLayout: this.getAttributeManager()!.getBufferLayouts(),
      topology: 'point-list',
    });
  }

  override updateState(parameters: UpdateParameters<this>): void {
    super.updateState(parameters);
    this.state.model!.setVertexCount(this.getNumInstances());
  }

  override draw(): void {
    const { model } = this.state;
    const progress = progressOf(this.props.move);
    model!.shaderInputs.setProps({ points: { size: this.props.size, progress } });
    model!.draw(this.context.renderPass);
    if (progress < 1) this.setNeedsRedraw();
  }
}
