#ifndef FNN_DATA_H
#define FNN_DATA_H

/* Element types that rows of X may come in. */
enum fnn_source { FNN_SOURCE_F32 = 0, FNN_SOURCE_F64, FNN_SOURCE_U8 };

#endif
