import {
  Layer,
  project32,
  type Accessor,
  type Color,
  type DefaultProps,
  type UpdateParameters,
} from '@deck.gl/core';
import { Model } from '@luma.gl/engine';

interface PointsLayerProps {
  /** In pixels. */
  size: number;
  getPosition: Accessor<number, readonly [number, number, number]>;
  /** With an alpha of 0 a point is not drawn. */
  getColor: Accessor<number, Color>;
}

const block = `\
layout(std140) uniform pointsUniforms {
  float size;
} points;
`;
const uniforms = { name: 'points', vs: block, fs: block, source: '', uniformTypes: { size: 'f32' } } as const;

const vs = `\
#version 300 es
in vec3 positions;
in vec4 colors;
out vec4 color;
void main() {
  color = colors;
  gl_Position = colors.a > 0.0
    ? project_position_to_clipspace(positions, vec3(0.0), vec3(0.0), geometry.position)
    : vec4(2.0, 2.0, 2.0, 1.0);
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
  getPosition: { type: 'accessor', value: [0, 0, 0] },
  getColor: { type: 'accessor', value: [0, 0, 0, 255] },
};

/**
 * Discs, each one vertex: a program draws them where there is no graphics card, and ScatterplotLayer's four, with their
 * smooth edges, took it thirty times as long.
 */
export class PointsLayer extends Layer<Required<PointsLayerProps>> {
  static override layerName = 'PointsLayer';
  static override defaultProps = defaultProps;
  declare state: { model?: Model };

  override getShaders(): unknown {
    return super.getShaders({ vs, fs, modules: [project32, uniforms] });
  }

  override initializeState(): void {
    this.getAttributeManager()!.add({
      positions: { size: 3, accessor: 'getPosition', transition: true },
      colors: { size: 4, type: 'unorm8', accessor: 'getColor' },
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
    model!.shaderInputs.setProps({ points: { size: this.props.size } });
    model!.draw(this.context.renderPass);
  }
}
