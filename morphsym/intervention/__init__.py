"""The causal edit: arms, designs and what they did to the mesh."""
