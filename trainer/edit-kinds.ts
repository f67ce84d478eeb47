/** What can have been done to a text to make a view of it. */
export const EDIT_KINDS = ['crop', 'deletion'] as const;
